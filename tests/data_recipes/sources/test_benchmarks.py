"""The named evaluation sets, from small files of our own with the original columns."""

import csv
import json

import pytest

from data_recipes.sources import catalogue
from data_recipes.sources.benchmarks import BENCHMARKS
from pipeline.config.data import BENCHMARK_SAMPLES
from pipeline.core.errors import ConfigError
from rewards import Verdict, judge_answers

ORIGINALS = {
    "aime_2024": {"id": 60, "problem": "How many of 1..9 are odd?", "solution": "Half.", "answer": "5", "year": "2024"},
    "aime_2025": {"problem": "How many of 1..9 are even?", "answer": "4", "id": "0"},
    "math_500": {
        "problem": "Halve $\\frac{1}{2}$.", "solution": "It is $\\boxed{\\frac{1}{4}}$.", "answer": "\\frac{1}{4}",
        "subject": "Algebra", "level": 1, "unique_id": "test/algebra/0.json",
    },
    "gsm8k": {"question": "Tom has 2 pens and buys 3.", "answer": "2+3=<<2+3=5>>5\n#### 5"},
    "gpqa_diamond": {
        "Question": "Which is a metal?", "Correct Answer": "iron", "Incorrect Answer 1": "wood",
        "Incorrect Answer 2": "air", "Incorrect Answer 3": "glass", "Record ID": "rec1",
    },
    "humaneval": {
        "task_id": "Ours/0", "prompt": 'def double(x):\n    """Twice x."""\n', "entry_point": "double",
        "canonical_solution": "    return 2 * x\n",
        "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
    },
}  # fmt: skip
RIGHT = {
    "aime_2024": "<answer>5</answer>",
    "aime_2025": "so \\boxed{4}",
    "math_500": "<answer>0.25</answer>",
    "gsm8k": "The answer is 5.",
    "gpqa_diamond": "<answer>iron</answer>",
    "humaneval": "```python\ndef double(x):\n    return x + x\n```",
}
WRONG = {
    **dict.fromkeys(RIGHT, "<answer>wood</answer>"),
    "humaneval": "```python\ndef double(x):\n    return x * x\n```",
}


@pytest.fixture
def local(tmp_path):
    def write(name):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(ORIGINALS[name]) + "\n")
        return catalogue.load_finite(f"benchmark:{name}", {"path": str(path)})

    return write


def test_every_benchmark_has_a_fixture_here():
    assert set(ORIGINALS) == set(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_right_answer_is_right_and_a_wrong_one_wrong(local, name):
    [row] = local(name)
    verdicts = judge_answers([RIGHT[name], WRONG[name]], [row.columns()] * 2, allow_weak_sandbox=True)
    assert verdicts == [Verdict.CORRECT, Verdict.WRONG]


def test_gpqa_lists_four_shuffled_choices(local):
    [row] = local("gpqa_diamond")
    assert sorted(row.columns()["choices"]) == ["air", "glass", "iron", "wood"]
    assert row.asked.count("\n(") == 4


def test_a_function_is_asked_for_as_code(local):
    [row] = local("humaneval")
    assert "```python\ndef double(x):" in row.asked


def test_the_papers_k():
    k = BENCHMARK_SAMPLES
    assert (k["aime_2024"], k["gpqa_diamond"], k["math_500"]) == (64, 64, 16)


def test_csv_serves_as_well(tmp_path):
    path = tmp_path / "gpqa.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(ORIGINALS["gpqa_diamond"]))
        writer.writeheader()
        writer.writerow(ORIGINALS["gpqa_diamond"])
    [row] = catalogue.load_finite("benchmark:gpqa_diamond", {"path": str(path)})
    assert row.columns()["choices"][ord(row.answer) - ord("A")] == "iron"


def test_an_unknown_benchmark_lists_those_that_are_there():
    with pytest.raises(ConfigError, match="aime_2024"):
        catalogue.check_source("benchmark:aime")


def test_a_file_with_other_columns_names_them(tmp_path):
    path = tmp_path / "aime.jsonl"
    path.write_text('{"id": 1, "question": "a", "answer": "1"}\n')
    with pytest.raises(ConfigError, match=r"'problem'.*id, question, answer"):
        catalogue.load_finite("benchmark:aime_2024", {"path": str(path)})


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match=r"\.jsonl, \.csv, \.parquet"):
        catalogue.load_finite("benchmark:aime_2024", {"path": "aime.xlsx"})
