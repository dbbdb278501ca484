"""Tasks of reasoning-gym that need no thought are refused by name, with what solves them and how often."""

import json
from pathlib import Path

import pytest

from benchmarks.gym import PAGE, page
from pipeline.checks.puzzles import SOLVED, WORTH_TRYING, check_puzzles, puzzle_notes
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from rewards.grading.gym_shortcuts import RECORDED, changed, copies, recorded

ROOT = Path(__file__).resolve().parents[3]


def with_task(task: str, **more):
    source = {"use": f"reasoning_gym:{task}", **more}
    return load_profile("smoke", [f"questions.reasoning={json.dumps([source])}"]).profile


def test_a_task_that_a_copy_of_the_question_solves_is_refused_with_its_rate():
    with pytest.raises(
        ConfigError, match=r"questions\.reasoning: what stands .* on 9[0-9]% of 40 questions of string_in"
    ):
        check_puzzles(with_task("string_insertion"))


def test_what_is_tried_are_the_tasks_with_the_arguments_of_the_profile():
    """Of `self_reference`, say, half of the questions have one answer; of `chain_sum` none is worth trying."""
    assert not list(puzzle_notes(with_task("chain_sum")))
    args = {"datasets": [{"name": "syllogism", "weight": 1.0, "config": {"invalid_ratio": 0.0}}]}
    assert any("of syllogism" in note for note in puzzle_notes(with_task("composite", args=args)))


def test_every_task_was_scanned_and_the_page_is_that_of_the_scan():
    from reasoning_gym.factory import DATASETS

    whole = json.loads(RECORDED.read_text(encoding="utf-8"))
    assert set(whole["tasks"]) == set(DATASETS) - {"composite"}
    assert (ROOT / PAGE).read_text(encoding="utf-8") == page(whole)
    assert 0 < WORTH_TRYING < SOLVED and all(figures["repeats_here"] for figures in recorded().values())


def test_what_is_copied_and_what_is_changed():
    question = "Sort these: [3, 10, 2]\n\nWrite 'none' where there is nothing:\n7.5 and -4"
    found = copies(question)
    assert found["its first list"] == "[3, 10, 2]" and found["its last quoted text"] == "none"
    assert found["its largest number"] == "10" and found["its smallest number"] == "-4"
    assert found["what stands behind its last colon"] == "7.5 and -4" == found["its last line"]
    made = changed("2.50")
    assert made["with the other sign"] == "-2.50" and made["cut off at the point"] == "2"
    assert "cut off at the point" not in changed("2.0") and "with the other sign" not in changed("word")
