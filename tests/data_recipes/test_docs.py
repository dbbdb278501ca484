"""The page on own data: its profiles load, their data is checked, and their questions come out as it says."""

import csv
import json
import logging
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from data_recipes.sources import hub
from data_recipes.sources.benchmarks import BENCHMARKS
from data_recipes.sources.mapping import RowMapping
from pipeline.checks.data import check_data
from pipeline.config.loading import load_profile
from pipeline.ladder import STAGES
from pipeline.runs.identity import resolved_config
from pipeline.steps.context import StageContext
from pipeline.steps.questions import evaluation_questions, training_questions
from rewards.grading.judging import VERIFIERS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-data.md").read_text()
BLOCKS = dict(re.findall(r"^```yaml\n# config: (\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the files that the page speaks of, and a data set of the Hub, as the working folder."""
    data = tmp_path / "data"
    data.mkdir()
    write(data / "math.jsonl", [{"question": f"What is {n} doubled?", "answer": 2 * n} for n in range(100)])
    write(data / "exam.jsonl", [{"question": "What is 7 doubled?", "answer": 14}])
    write(data / "aime.jsonl", [{"id": 1, "problem": "How many?", "solution": "Count.", "answer": "5"}])
    gpqa = ["Question", "Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3))]
    table(data / "gpqa.csv", gpqa, ["Which?", "this", "that", "those", "these"])
    table(data / "choices.csv", ["Question", "Correct", "Wrong 1", "Wrong 2"], ["Which is red?", "rose", "sky", "sea"])
    rows = [{"problem": f"{n}+1?", "solution": f"So \\boxed{{{n + 1}}}."} for n in range(4)]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), data / "competition.parquet")
    there = tmp_path / "openai" / "gsm8k" / "main"
    there.mkdir(parents=True)
    write(there / "train.jsonl", [{"question": f"Tom has {n} pens.", "answer": f"Yes.\n#### {n}"} for n in range(6)])
    card = "---\nconfigs:\n- config_name: main\n  data_files: [{split: train, path: main/train.jsonl}]\n---\n"
    (there.parent / "README.md").write_text(card)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipeline.config.loading.PROFILE_FOLDER", ROOT / "configs")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(hub, "_hub_answers", lambda: False)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    return tmp_path


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def table(path, *rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def checked(folder, name):
    """The profile of one block of the page, as a child of the smoke profile."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"extends": "smoke", "name": name, **yaml.safe_load(BLOCKS[name])}))
    profile = load_profile(str(path)).profile
    check_data(profile)
    return profile


def questions(folder, name, groups=None):
    profile = checked(folder, name)
    config = profile.stages.r1_zero
    ctx = StageContext("r1_zero", "test", profile, config, {}, folder, "cpu", logging.getLogger(), None, None)
    return training_questions(ctx, groups or config.questions)


def test_the_mixture_has_its_shares(folder):
    rows = questions(folder, "mixture")
    sources = [row.verifier for row in rows]
    shares = {"math": 30, "reasoning_gym": 10, "countdown": 10, "choice": 10}
    assert {source: sources.count(source) for source in set(sources)} == shares
    assert len({row.question for row in rows if row.verifier == "choice"}) == 1
    assert {row.domain for row in rows} == {"reasoning"}


def test_an_own_evaluation_set_takes_the_place_of_the_parents(folder):
    profile = checked(folder, "measured")
    assert profile.stages.r1_zero.heldout.set == "reasoning"
    assert [row.question for row in evaluation_questions(profile, "reasoning")] == ["What is 7 doubled?"]


def test_the_hub_and_parquet_give_final_answers(folder):
    rows = questions(folder, "hub", {"reasoning": None})
    assert sorted(int(row.answer) for row in rows) == sorted([*range(6), *range(1, 5)])


def test_cleaning_keeps_the_exam_out(folder):
    profile = checked(folder, "cleaning")
    assert profile.cleaning.duplicates == "near" and profile.stages.r1_zero.difficulty.samples == 8
    overrides = ["questions.reasoning=[{use: 'jsonl:data/math.jsonl'}]"]
    profile = load_profile(str(folder / "cleaning.yaml"), [*overrides, "cleaning.duplicates=exact"]).profile
    ctx = StageContext(
        "r1_zero", "test", profile, profile.stages.r1_zero, {}, folder, "cpu", logging.getLogger(), None, None
    )
    assert len(training_questions(ctx, {"reasoning": None})) == 99


def test_benchmarks_come_from_files_with_the_papers_k(folder):
    profile = checked(folder, "benchmarks")
    assert profile.stages.evaluate.sets["aime"].samples == 64
    assert profile.stages.evaluate.sets["gpqa"].samples == 4
    [row] = evaluation_questions(profile, "gpqa")
    assert row.columns()["choices"][ord(row.answer) - ord("A")] == "this"


@pytest.mark.parametrize("name", [*BENCHMARKS, *VERIFIERS, "options", "answer_after", "answer_boxed", "ask"])
def test_every_name_is_on_the_page(name):
    assert f"`{name}`" in PAGE or f"{name}:" in PAGE


def test_every_argument_of_a_mapping_is_explained():
    assert all(name in PAGE for name in RowMapping.model_fields)


@pytest.mark.parametrize("changed", ["aime.jsonl", "gpqa.csv"])
def test_a_changed_benchmark_file_makes_the_evaluation_stale(folder, changed):
    profile = checked(folder, "benchmarks")
    before = resolved_config(profile, STAGES["evaluate"])
    (folder / "data" / changed).write_text("other\n")
    assert resolved_config(profile, STAGES["evaluate"]) != before


def test_a_changed_source_file_makes_the_stages_that_read_it_stale(folder):
    profile = checked(folder, "mixture")
    before = {stage: resolved_config(profile, STAGES[stage]) for stage in ("r1_zero", "sft")}
    (folder / "data" / "choices.csv").write_text("other\n")
    assert resolved_config(profile, STAGES["r1_zero"]) != before["r1_zero"]
    assert resolved_config(profile, STAGES["sft"]) == before["sft"]
