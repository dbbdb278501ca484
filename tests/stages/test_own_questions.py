"""The README's example, as printed, at smoke size: a user's own model, reward and questions are trained and measured.

It trains by the recipe `dapo`, which adds a reward that the profile does not list, and the report is made of it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from data_recipes.pocket.bases import base_folder

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r"^```yaml\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
SMALL = "engine.kind=transformers stages.r1_zero.grpo.recipe=dapo stages.r1_zero.grpo.dynamic_sampling=0"
REWARD = """
def brevity(completions, completion_ids, **columns):
    return [1 / (1 + len(ids)) for ids in completion_ids]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The user's folder, with what the example names, after `check` and `run r1-zero`."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "data").mkdir()
    write(folder / "data" / "math.jsonl", [(f"What is {n} + 3 ?", n + 3) for n in range(20)])
    write(folder / "data" / "exam.jsonl", [(f"What is {n} + 5 ?", n + 5) for n in range(30, 36)])
    shutil.copytree(base_folder("teacher"), folder / "models" / "my-base")
    (folder / "my_rewards.py").write_text(REWARD)
    [example] = [block for block in BLOCKS if "name: mine" in block]
    (folder / "mine.yaml").write_text(example.replace("extends: pocket", "extends: smoke"))
    return folder


def write(path, rows):
    path.write_text("".join(json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in rows))


def pipeline(folder, *arguments) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments, "--profile", "mine.yaml", "--set", SMALL],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def stage(folder):
    pipeline(folder, "run", "r1-zero")
    return folder / "runs" / "mine" / "r1_zero"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_check_says_what_is_drawn_and_what_is_evaluated(folder):
    said = " ".join(pipeline(folder, "check").split())
    assert "16 prompts from 20 questions, so each is drawn 0.8 times" in said
    assert "evaluate.reasoning: 6 of 6 questions of jsonl:data/exam.jsonl are evaluated" in said
    assert "none of your questions" not in said


def test_the_users_questions_are_trained_with_their_answers(stage):
    asked = {row["prompt"] for path in (stage / "rollouts").iterdir() for row in lines(path)}
    assert asked and all(re.fullmatch(r"User: What is \d+ \+ 3 \? Assistant:", prompt) for prompt in asked)
    records = lines(stage / "metrics.jsonl")
    assert all(isinstance(record["rewards"]["accuracy"], float) for record in records)
    assert sum(sum(record["verdicts"]["accuracy"].values()) for record in records) == 4 * 16


def test_the_users_questions_are_measured(stage):
    assert {row["set"] for row in lines(stage / "heldout.jsonl")} == {"reasoning"}
    asked = {row["question"] for path in (stage / "heldout").iterdir() for row in lines(path)}
    assert asked <= {f"What is {n} + 5 ?" for n in range(30, 36)} and len(asked) == 4


def test_the_report_shows_every_reward_that_was_trained(folder, stage):
    records = lines(stage / "metrics.jsonl")
    assert list(records[0]["rewards"]) == ["accuracy", "brevity", "overlong"]
    code = (
        "from pipeline.config.loading import load_profile; from pipeline.report import RunRecord, write_report; "
        "from pipeline.report.curves import stage_curves; from pipeline.runs.folder import RunFolder; import sys; "
        "profile = load_profile('mine.yaml', sys.argv[1].split()).profile; "
        "record = RunRecord.of_folder(profile, RunFolder('mine', 'mine')); "
        "import pathlib; write_report(record, pathlib.Path('report.html'), []); "
        "[chart] = [c for c in stage_curves([record], 'r1_zero')['charts'] if 'each apart' in c['title']]; "
        "print([line['name'] for line in chart['lines']])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, SMALL], cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['accuracy', 'overlong']"  # brevity counts from step 100 on
    assert (folder / "report.html").stat().st_size > 10_000
