"""docs/python.md: every block of Python runs as printed, in order, in a user's folder."""

import asyncio
import json
import re
from pathlib import Path

import pytest

from rewards import RewardError
from rewards.adapters import Scorer, compute_score, rubric

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
SECTIONS = [part for part in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:] if "```python" in part]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.partition("\n")[0])
def test_the_blocks_of_a_section_run_as_printed(section, start, tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "my-base").symlink_to(start)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path / "runs")
    for block in re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        exec(compile(block, "docs/python.md", "exec"), {"__name__": "page"})
    if (tmp_path / "grpo-out").exists():
        assert (tmp_path / "grpo-out" / "checkpoint" / "model.safetensors").is_file()
        records = [json.loads(line) for line in (tmp_path / "grpo-out" / "metrics.jsonl").read_text().splitlines()]
        assert list(records[-1]["rewards"]) == ["accuracy", "format"]


RIGHT, WRONG = "<think>2 + 2</think> <answer>4</answer>", "<think>2 + 2</think> <answer>5</answer>"


@pytest.mark.parametrize(("text", "answer", "expected"), [
    (RIGHT, "4", {"score": 2.0, "accuracy": 1.0, "accuracy_scored": 1.0, "format": 1.0, "format_scored": 1.0}),
    (WRONG, "4", {"score": 1.0, "accuracy": 0.0, "accuracy_scored": 1.0, "format": 1.0, "format_scored": 1.0}),
    (RIGHT, "", {"score": 1.0, "accuracy": 0.0, "accuracy_scored": 0.0, "format": 1.0, "format_scored": 1.0}),
    ("4", "4", {"score": 1.0, "accuracy": 1.0, "accuracy_scored": 1.0, "format": 0.0, "format_scored": 1.0}),
])  # fmt: skip
def test_verl_gets_a_score_and_can_tell_wrong_from_not_judged(text, answer, expected):
    """Every call gives the same keys, as verl lays them out as columns."""
    assert compute_score("any", text, answer, {"verifier": "exact"}, reward_router_address=None) == expected


def test_verl_can_choose_the_rewards_and_their_weights():
    rewards = [{"use": "accuracy", "weight": 0.5}, {"use": "format", "args": {"shape": "r1"}, "domains": ["general"]}]
    scores = compute_score("any", RIGHT, "4", {"verifier": "exact", "domain": "reasoning"}, rewards=rewards)
    assert scores["score"] == 0.5 and scores["format_scored"] == 0.0


def call(functions, **keywords):
    """The functions as verifiers calls one: with all that it has, by name; each is awaited."""
    given = {
        "prompt": [{"role": "user", "content": "2 + 2?"}],
        "state": {},
        "task": None,
        "parser": object(),
    } | keywords
    return [asyncio.run(function(**given)) for function in functions]


@pytest.mark.parametrize("as_text", [True, False])
def test_a_rubric_scores_messages_and_texts(as_text):
    functions, weights = rubric(["accuracy", {"use": "format", "weight": 0.2}])
    assert [function.__name__ for function in functions] == ["accuracy", "format"] and weights == [1.0, 0.2]
    for text, scores in ((RIGHT, [1.0, 1.0]), (WRONG, [0.0, 1.0])):
        completion = text if as_text else [{"role": "assistant", "content": text}]
        assert call(functions, completion=completion, answer="4", info={"verifier": "exact"}) == scores
        assert call(functions, completion=completion, answer="4", info='{"verifier": "exact"}') == scores


def test_a_rubric_reads_columns_of_the_row_and_takes_message_objects():
    class Message:
        role, content = "assistant", RIGHT

    functions, _ = rubric(["accuracy"])
    assert call(functions, completion=[Message()], answer="4", info=None, verifier="exact") == [1.0]


def test_rewards_over_a_group_are_refused_where_completions_come_one_at_a_time():
    with pytest.raises(RewardError, match="kimi_length compares the completions of a group"):
        Scorer(["accuracy", "kimi_length"])


def test_rewards_of_length_count_tokens_by_the_tokenizer_that_is_given():
    shaped = {"use": "soft_overlong", "args": {"max_tokens": 4, "cache_tokens": 4}}
    scorer = Scorer([shaped], tokenizer=lambda text: {"input_ids": text.split()})
    assert scorer.scores("one two", {}) == {"soft_overlong": -0.5}
    with pytest.raises(RewardError, match="measures tokens"):
        Scorer([shaped]).scores("one two", {})
