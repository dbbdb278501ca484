"""Questions that the policy solves sometimes: measured in shards, kept by a window, remembered with their rate."""

import json
import logging
from types import SimpleNamespace

import pytest

from data_recipes.question import Question
from pipeline.config.loading import load_profile
from pipeline.config.policy import Difficulty
from pipeline.core.errors import RunError
from pipeline.core.files import read_json_lines
from pipeline.engines import Completion
from pipeline.steps.context import StageContext
from pipeline.steps.difficulty import can_be_judged, sometimes_solved
from pipeline.steps.questions import FUNNELS

RIGHT_OF_EIGHT = {"never": 0, "once": 1, "often": 7, "always": 8}


class Silent:
    def __init__(self, *_):
        self.update = lambda *_, **__: None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class Policy:
    """An engine that answers each question right as often as its words say; it stops after `shards` calls."""

    tokenizer = staticmethod(lambda prompts, **_: {"input_ids": [[1]] * len(prompts)})

    def __init__(self, shards=99):
        self.shards, self.calls = shards, 0

    def generate(self, prompts, n, sampling, progress=None):
        self.calls += 1
        if self.calls > self.shards:
            raise KeyboardInterrupt
        return [[self.answer(prompt, number) for number in range(n)] for prompt in prompts]

    def answer(self, prompt, number):
        right = next(count for word, count in RIGHT_OF_EIGHT.items() if word in prompt)
        return Completion([1, 2, 3], f"<answer>{7 if number < right else 8}</answer>", None, "stop")


def questions():
    rows = [
        Question(id=word, domain="d", question=f"Solved {word}?", answer="7", verifier="exact")
        for word in RIGHT_OF_EIGHT
    ]
    return [*rows, Question(id="free", domain="general", question="Say hello.", answer=None, verifier="none")]


@pytest.fixture
def ctx(tmp_path):
    def make(**difficulty):
        profile = load_profile("smoke").profile
        config = profile.stages.r1_zero.model_copy(update={"difficulty": Difficulty(**difficulty)})
        return StageContext(
            "r1_zero", "test", profile, config, {}, tmp_path, "cpu", logging.getLogger(), Silent, SimpleNamespace()
        )

    return make


def solved(ctx, policy, rows=None):
    ctx.engines.current = policy
    return sometimes_solved(ctx, policy.tokenizer, rows or questions(), "r1_zero")


def test_what_is_never_or_always_solved_is_left_out_and_the_rate_is_kept(ctx):
    kept, tokens = solved(ctx(), Policy())
    assert {row.id: row.columns()["pass_rate"] for row in kept} == {"once": 0.125, "often": 0.875, "free": None}
    assert tokens == 4 * 8 * 3


@pytest.mark.parametrize(("window", "ids"), [((0.0, 0.5), {"never", "once"}), ((0.5, 1.0), {"often", "always"})])
def test_the_window_decides(ctx, window, ids):
    settings = ctx(min_pass_rate=window[0], max_pass_rate=window[1])
    kept, _ = solved(settings, Policy())
    assert {row.id for row in kept} == ids | {"free"}


def test_the_funnel_says_what_was_too_hard_and_too_easy(ctx):
    stage = ctx()
    solved(stage, Policy())
    funnel = json.loads((stage.folder / FUNNELS).read_text())["difficulty"]
    assert {drop["reason"]: drop["examples"] for drop in funnel["dropped"]} == {
        "too_hard": ["0%: Solved never?"],
        "too_easy": ["100%: Solved always?"],
    }
    assert (funnel["rows_in"], funnel["rows_out"]) == (5, 3)


def test_an_interrupted_measurement_goes_on_after_its_last_shard(ctx):
    stage = ctx(shard_questions=1)
    with pytest.raises(KeyboardInterrupt):
        solved(stage, Policy(shards=3))
    policy = Policy()
    kept, _ = solved(stage, policy)
    assert policy.calls == 1
    assert {row.id for row in kept} == {"once", "often", "free"}


def test_a_finished_measurement_is_not_made_again(ctx):
    stage, policy = ctx(), Policy()
    first = solved(stage, Policy())
    assert solved(stage, policy) == first
    assert policy.calls == 0
    assert [row["pass_rate"] for _, row in read_json_lines(stage.folder / "questions.jsonl")] == [0.125, 0.875, None]


def test_nothing_between_hard_and_easy_is_an_error_with_the_counts(ctx):
    extremes = [row for row in questions() if row.id in ("never", "always")]
    with pytest.raises(RunError, match=r"too_hard 1.*too_easy 1|too_easy 1.*too_hard 1"):
        solved(ctx(), Policy(), extremes)


def test_a_window_that_no_rate_can_meet_is_refused():
    with pytest.raises(ValueError, match="multiples of 1/4"):
        Difficulty(samples=4, min_pass_rate=0.3, max_pass_rate=0.4)


@pytest.mark.parametrize("verifier", ["countdown", "code", "reasoning_gym", "custom"])
def test_verifiers_that_need_no_gold_answer_are_measured_without_one(verifier):
    row = Question(id="q", domain="d", question="?", answer=None, verifier=verifier)
    assert can_be_judged(row)
