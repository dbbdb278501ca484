"""The rewards of a run: weights, schedules, domains, verdicts."""

import itertools
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import rewards.builtin
from pipeline.config.rewards import ErrorRates
from pipeline.training.grpo.advantages import group_advantages
from rewards import (
    Closes,
    GivesVerdicts,
    Prefetches,
    RewardContext,
    RewardError,
    RewardSet,
    RewardSpec,
    Verdict,
    load,
)
from rewards.registry import built_in
from rewards.reward_set import RunReward

RIGHT, WRONG, NONE = "<answer> 4 </answer>", "<answer> 5 </answer>", "hm"
COLUMNS = {"verifier": ["exact"] * 4, "answer": ["4", "4", "4", None], "domain": ["math", "math", "logic", "logic"]}
COMPLETIONS = [RIGHT, WRONG, NONE, RIGHT]


def called(reward_set, index=0, step=None, **columns):
    state = {} if step is None else {"trainer_state": SimpleNamespace(global_step=step)}
    return reward_set.functions[index](prompts=["q"] * 4, completions=COMPLETIONS, **COLUMNS | columns | state)


def test_scores_follow_verdicts_and_are_counted():
    reward_set = RewardSet([RewardSpec(use="accuracy")])
    assert called(reward_set) == [1.0, 0.0, 0.0, None]
    verdicts = [Verdict.CORRECT, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.GOLD_UNUSABLE]
    [reward] = reward_set.functions
    assert (reward.__name__, reward.verdicts) == ("accuracy", verdicts)
    called(reward_set)
    assert reward.counted == Counter(verdicts * 2)


def test_every_reward_has_a_name_of_its_own():
    specs = [
        RewardSpec(use="accuracy"),
        RewardSpec(use="format"),
        RewardSpec(use="accuracy"),
        RewardSpec(use="accuracy"),
    ]
    names = [function.__name__ for function in RewardSet(specs).functions]
    assert names == ["accuracy", "format", "accuracy_2", "accuracy_3"]


def test_whole_numbers_serve_as_weights():
    reward_set = RewardSet([RewardSpec(use="accuracy", weight=1), RewardSpec(use="format", weight=0.5)])
    assert reward_set.weights == [1.0, 0.5]


def test_a_reward_applies_to_its_domains_only():
    reward_set = RewardSet([RewardSpec(use="accuracy", domains=["math"])])
    assert called(reward_set) == [1.0, 0.0, None, None]
    with pytest.raises(RewardError, match="column 'domain'"):
        called(reward_set, domain=None)


@pytest.mark.parametrize(
    ("step", "score"), [(0, None), (9, None), (10, 0.0), (15, 0.5), (20, 1.0), (95, 0.5), (100, None)]
)
def test_a_schedule_starts_ramps_and_ends(step, score):
    schedule = {"from_step": 10, "to_step": 100, "ramp_steps": 10}
    reward_set = RewardSet([RewardSpec(use="accuracy", schedule=schedule)])
    assert called(reward_set, step=step)[0] == score


def test_a_schedule_needs_the_trainers_state():
    with pytest.raises(RewardError, match="trainer_state"):
        called(RewardSet([RewardSpec(use="accuracy", schedule={"from_step": 1})]))


@pytest.mark.parametrize(
    "spec",
    [{"use": "accuracy", "wieght": 1}, {"use": "accuracy", "schedule": {"from_step": 5, "to_step": 5}}, {"weight": 1}],
)
def test_a_spec_with_unknown_keys_or_an_empty_schedule_is_refused(spec):
    with pytest.raises(ValidationError):
        RewardSpec(**spec)


def test_the_run_gives_the_group_size_to_rewards_that_ask_for_it():
    reward_set = RewardSet([RewardSpec(use="kimi_length")], RewardContext(num_generations=2))
    ids = [[1] * 10, [1] * 20, [1] * 10, [1] * 20]
    columns = {"answer": ["4"] * 4, "completion_ids": ids}
    assert reward_set.functions[0](prompts=["q"] * 4, completions=[RIGHT] * 4, **COLUMNS | columns) == [0.5, -0.5] * 2


def test_a_missing_column_names_itself():
    with pytest.raises(RewardError, match="no column 'verifier'"):
        called(RewardSet([RewardSpec(use="accuracy")]), verifier=None)


def test_rows_without_a_verifier_are_left_out():
    reward_set = RewardSet([RewardSpec(use="accuracy")])
    assert called(reward_set, verifier=["exact", None, "exact", None]) == [1.0, None, 0.0, None]


def test_an_unknown_verifier_names_the_row_and_the_known_ones():
    with pytest.raises(RewardError, match=r"row r2: verifier 'maths' is not one of math"):
        called(
            RewardSet([RewardSpec(use="accuracy")]),
            verifier=["exact", "maths", "exact", "exact"],
            id=["r1", "r2", "r3", "r4"],
        )


def test_conversations_are_scored_like_text():
    function = RewardSet([RewardSpec(use="accuracy")]).functions[0]
    completions = [[{"role": "assistant", "content": text}] for text in COMPLETIONS]
    assert function(prompts=[[{"role": "user", "content": "q"}]] * 4, completions=completions, **COLUMNS) == [
        1,
        0,
        0,
        None,
    ]


def test_a_file_in_builtin_is_all_that_a_new_reward_takes(tmp_path, monkeypatch):
    (tmp_path / "sparkle.py").write_text(
        "from rewards.contract import Closes, GivesVerdicts, Reward\n"
        "from rewards.grading.verdict import Verdict\n\n\n"
        "class Sparkle(Reward, GivesVerdicts, Closes):\n"
        '    """Counts what glitters."""\n\n'
        '    name = "sparkle"\n'
        "    closed = 0\n\n"
        "    def __init__(self, each: float = 1.0):\n"
        "        self.each, self.verdicts = each, []\n\n"
        "    def __call__(self, prompts, completions, completion_ids=None, **columns):\n"
        "        self.verdicts = [Verdict.CORRECT for _ in completions]\n"
        "        return [self.each * text.count('*') for text in completions]\n\n"
        "    def close(self):\n"
        "        Sparkle.closed += 1\n"
    )
    monkeypatch.setattr(rewards.builtin, "__path__", [*rewards.builtin.__path__, str(tmp_path)])
    built_in.cache_clear()
    try:
        assert rewards.names()["sparkle"] == "Counts what glitters."
        reward_set = RewardSet([RewardSpec(use="sparkle", args={"each": 2.0})])
        assert reward_set.functions[0](prompts=["q", "q"], completions=["**", ""]) == [4.0, 0.0]
        assert reward_set.functions[0].counted[Verdict.CORRECT] == 2
        reward_set.close()
        assert built_in()["sparkle"].closed == 1
    finally:
        built_in.cache_clear()
        sys.modules.pop("rewards.builtin.sparkle", None)


def test_what_a_reward_can_do_is_said_by_what_it_is():
    """No reward that only scores is taken for one that does more, and each that does more is known for it."""
    can = {
        use: {kind.__name__ for kind in (GivesVerdicts, Prefetches, Closes) if isinstance(reward, kind)}
        for use, reward in {
            "accuracy": load("accuracy"),
            "kimi_length": load("kimi_length"),
            "format": load("format"),
            "reward_model": load("reward_model", model="nowhere"),
        }.items()
    }
    assert can == {
        "accuracy": {"GivesVerdicts", "Prefetches"},
        "kimi_length": {"GivesVerdicts"},
        "format": set(),
        "reward_model": {"Closes"},
    }


def test_a_plain_function_becomes_a_reward_of_a_run():
    def shout(completions, **columns):
        return [float(text.isupper()) for text in completions]

    reward = RunReward.of(shout)
    assert reward.__name__ == "shout" and RunReward.of(reward) is reward
    assert reward(prompts=["q", "q"], completions=["A", "a"]) == [1.0, 0.0]
    assert not reward.verdicts and not reward.prefetches


def noisy_mean(rates, of):
    """The mean of `of(scores)` over every way in which four answers' scores can be wrong, by its chance."""
    clean = torch.tensor([1.0, 1.0, 0.0, 1.0], dtype=torch.float64)
    total = torch.zeros_like(clean)
    for wrong in itertools.product((False, True), repeat=4):
        chance, scores = 1.0, []
        for is_right, flipped in zip(clean.tolist(), wrong, strict=True):
            rate = rates.false_refusal if is_right else rates.false_credit
            chance *= rate if flipped else 1 - rate
            scores.append(rates.corrected(abs(is_right - flipped)))
        total += chance * of(torch.tensor(scores, dtype=torch.float64))
    return clean, total


@pytest.mark.parametrize(("credit", "refusal"), [(0.0, 0.2), (0.1, 0.3), (0.25, 0.0)])
def test_corrected_scores_and_advantages_are_those_without_errors_on_average(credit, refusal):
    def advantages(scores):
        one = torch.ones(1, dtype=torch.float64)
        return group_advantages(scores[:, None], one, group_size=4, scale="none").advantages

    rates = ErrorRates(false_credit=credit, false_refusal=refusal)
    clean, scores = noisy_mean(rates, lambda scores: scores)
    torch.testing.assert_close(scores, clean)
    clean, mean = noisy_mean(rates, advantages)
    torch.testing.assert_close(mean, advantages(clean))


def test_a_reward_with_rates_gives_corrected_scores_and_its_own_verdicts():
    reward_set = RewardSet([RewardSpec(use="accuracy", rates={"false_credit": 0.1, "false_refusal": 0.4})])
    assert called(reward_set) == [pytest.approx(1.8), pytest.approx(-0.2), pytest.approx(-0.2), None]
    assert reward_set.functions[0].verdicts[0] is Verdict.CORRECT


def test_rates_that_leave_nothing_to_learn_and_scores_between_are_refused():
    with pytest.raises(ValidationError, match="add up to 1"):
        RewardSpec(use="accuracy", rates={"false_credit": 0.5, "false_refusal": 0.5})
    half = RunReward(RewardSpec(use="half", rates={"false_credit": 0.1}), lambda **_: [0.5], "half")
    with pytest.raises(RewardError, match="0 and 1"):
        half(prompts=["q"], completions=["a"])


def test_what_a_reward_logs_of_its_rows_is_kept_with_them_and_passed_on():
    passed = {}

    def says(completions, log_extra, **columns):
        log_extra("length", [np.int64(len(text)) for text in completions])
        log_extra("kind", [object] * len(completions))
        return [0.0] * len(completions)

    reward = RunReward(RewardSpec(use="says", domains=["math"]), says, "says")
    reward(prompts=["q"] * 4, completions=COMPLETIONS, log_extra=passed.__setitem__, **COLUMNS)
    assert reward.logged == passed
    assert passed == {"length": [len(RIGHT), len(WRONG), None, None], "kind": ["<class 'object'>"] * 2 + [None] * 2}
    reward(prompts=["q"], completions=[NONE], domain=["logic"])
    assert reward.logged == {}


def test_a_reward_that_logs_too_few_values_is_told():
    def says(completions, log_extra, **columns):
        log_extra("length", [1])
        return [0.0] * len(completions)

    with pytest.raises(RewardError, match=r"log_extra\('length', …\) got 1 values for 2 completions"):
        RunReward.of(says)(prompts=["q"] * 2, completions=["", ""])
