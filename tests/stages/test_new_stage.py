"""A stage of reinforcement learning is added by its script, a row of the ladder and a field of the profile's sections.

Done here in a copy of the tree as the documentation says it, with a profile that gives the new stage two steps.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "reinforcement-learning.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```\w+\n(.*?)```", PAGE.partition("## A stage of your own")[2], re.DOTALL)
SCRIPT, ROW, FIELD, PROFILE = BLOCKS[:4]
COMMANDS = """
import sys
from pipeline.cli import main

for command in ("run second-zero", "status", "check", "report", "export second-zero --format hf"):
    print(f"== {command.split()[0]}", flush=True)
    code = main([*command.split(), "--profile", "extended.yaml", "--run", "new"])
    if code:
        sys.exit(code)
"""


def insert(path: Path, text: str, before: str) -> None:
    source = path.read_text(encoding="utf-8")
    assert source.count(before) == 1
    path.write_text(source.replace(before, text + before), encoding="utf-8")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """The project with one more stage: three files touched, and a profile that wants it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("pipeline", "stages", "configs"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("rewards", "data_recipes", "requirements", "Makefile"):
        (tree / name).symlink_to(ROOT / name)
    (tree / "stages" / "second_zero.py").write_text(SCRIPT)
    insert(tree / "pipeline" / "ladder.py", ROW, before='    StageDefinition(\n        "cold_start_data"')
    insert(tree / "pipeline" / "config" / "stages.py", FIELD, before="    cold_start_data: ")
    (tree / "extended.yaml").write_text(PROFILE)
    return tree


@pytest.fixture(scope="module")
def said(tree) -> dict[str, str]:
    """What each command printed, the new stage having been run."""
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tree, capture_output=True, text=True, timeout=3600,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    parts = re.split(r"^== (\S+)\n", done.stdout, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_it_runs_from_the_base_that_it_names(tree, said):
    manifest = json.loads((tree / "runs" / "new" / "second_zero" / "manifest.json").read_text())
    assert list(manifest["inputs"]) == ["base_model/checkpoint"]
    assert manifest["metrics"]["steps"] == 2
    assert (tree / "runs" / "new" / "second_zero" / "checkpoint" / "model.safetensors").is_file()
    assert "stages.second_zero" not in (tree / "configs" / "smoke.yaml").read_text()


def test_status_says_that_it_is_done(said):
    assert re.search(r"second_zero +│ done", said["status"])
    assert re.search(r"evaluate +│ missing", said["status"])


def test_check_shows_its_arithmetic_memory_and_rewards_and_one_more_rung(said):
    assert re.search(r"second_zero.*2 questions × 2 = 4", said["check"])
    assert re.search(r"teacher +│ second_zero", said["check"])
    assert re.search(r"second_zero +│ accuracy", said["check"])
    assert "for 12 rungs" in said["check"]


def test_the_evaluation_measures_it_after_the_rung_before_it(tree):
    code = (
        "from pipeline.ladder import EVALUATE, REPORT, rungs\n"
        "print(*EVALUATE.reads)\nprint(*REPORT.reads)\n"
        "print(*[(rung.name, rung.stage.id, rung.checkpoint) for rung in rungs(['a'], {'student_rl': 'a'})][1:3])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tree, capture_output=True, text=True)
    measured, reported, first = done.stdout.splitlines()
    assert measured.split()[:3] == ["base_model", "r1_zero", "second_zero"]
    assert "second_zero" in reported.split()
    assert first == "('R1-Zero', 'r1_zero', 'checkpoint') ('Second-Zero', 'second_zero', 'checkpoint')"


def test_the_report_draws_its_curves_and_its_rung(tree, said):
    page = (tree / "runs" / "new" / "report-preview.html").read_text(encoding="utf-8")
    heading = page.partition('<h3 id="curves-second_zero">')[2].partition("</h3>")[0]
    assert heading.startswith("Second-Zero") and "the paper has another Zero in this place" in heading
    rung = page.partition('<span class="name">Second-Zero</span>')[2].partition("</li>")[0]
    assert "GRPO from the base once more" in rung
    assert "from the held-out curve of second_zero, step 2" in rung


def test_its_checkpoint_is_exported_with_the_base_that_it_has(tree, said):
    card = (tree / "runs" / "new" / "export" / "second-zero-hf" / "README.md").read_text(encoding="utf-8")
    assert "`second_zero`" in card and "`pocket:teacher`. Its licence" in card


def test_it_is_a_make_target(tree):
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make", "-n", "second_zero"], cwd=tree, capture_output=True, text=True, env=env)
    assert "-m pipeline run second-zero " in done.stdout, done.stderr
