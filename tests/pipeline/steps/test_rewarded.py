"""A stage never trains on without the reward that compares answers."""

import pytest

from data_recipes.question import Question
from pipeline.core.errors import ConfigError, RunError
from pipeline.steps.rewarded import UNJUDGED_STEPS, JudgedWatch, check_rewards_apply
from rewards import RewardSet, RewardSpec


def question(**columns) -> Question:
    return Question(**{"id": "q", "domain": "maths", "question": "?", "answer": "1", "verifier": "math"} | columns)


def record(step, **verdicts):
    return {"step": step, "verdicts": {"accuracy": verdicts} if verdicts else {}}


def watch(*specs, before=()):
    rewards = RewardSet([RewardSpec(use="format"), *(specs or [RewardSpec(use="accuracy")])])
    return JudgedWatch("r1_zero", rewards, before)


def test_one_judged_answer_is_enough():
    watched = watch()
    for step in range(1, 2 * UNJUDGED_STEPS):
        watched.step(record(step, gold_unusable=8, **({"wrong": 1} if step == 1 else {})))
    watched.end()


@pytest.mark.parametrize("verdict", ["gold_unusable", "scorer_failed"])
def test_a_stage_that_judges_nothing_is_ended_long_before_its_end(verdict):
    watched = watch()
    for step in range(1, UNJUDGED_STEPS):
        watched.step(record(step, **{verdict: 8}))
    with pytest.raises(RunError, match=rf"accuracy judged no answer in {UNJUDGED_STEPS} steps \({verdict} 160\)"):
        watched.step(record(UNJUDGED_STEPS, **{verdict: 8}))


@pytest.mark.parametrize("verdicts", [{"gold_unusable": 4}, {}])
def test_a_short_stage_that_judged_nothing_is_no_success(verdicts):
    watched = watch()
    watched.step(record(1, **verdicts))
    with pytest.raises(RunError, match="accuracy judged no answer in 1 steps"):
        watched.end()


def test_steps_before_a_rewards_schedule_do_not_count():
    late = RewardSpec(use="accuracy", schedule={"from_step": 100})
    watched = watch(late)
    for step in range(1, 100):
        watched.step(record(step))
    watched.end()
    with pytest.raises(RunError):
        watched.step(record(101))
        watched.end()


def test_a_resumed_stage_remembers_what_it_had_judged():
    watch(before=[record(1, correct=1)]).end()
    with pytest.raises(RunError):
        watch(before=[record(1, gold_unusable=1)]).end()


def test_other_rewards_may_have_nothing_to_say():
    watched = watch(RewardSpec(use="language"))
    watched.step(record(1))
    watched.end()


def test_rewards_without_questions_are_refused():
    accuracy = RewardSpec(use="accuracy", domains=["reasoning"])
    with pytest.raises(ConfigError, match=r"limited to domains reasoning, .* theirs are maths"):
        check_rewards_apply("general_rl", [accuracy], [question()])
    check_rewards_apply("general_rl", [accuracy], [question(domain="reasoning"), question()])


@pytest.mark.parametrize("use", ["accuracy", "kimi_length", "cosine_length"])
def test_answers_are_asked_for_by_every_reward_that_judges_them(use):
    spec = RewardSpec(use=use)
    with pytest.raises(ConfigError, match=f"{use} compares answers, and none of the 2"):
        check_rewards_apply("r1_zero", [spec], [question(answer=None), question(answer=None, verifier="none")])
    check_rewards_apply("r1_zero", [spec], [question(answer=None), question()])
    check_rewards_apply("r1_zero", [spec], [question(answer=None, verifier="code", tests=["assert True"])])
