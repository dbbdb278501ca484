"""The README's example, as printed, at smoke size: a user's own model, reward and questions are checked.

`test_newcomer.py` trains and measures such ones.
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
REWARD = """
def brevity(completions, completion_ids, **columns):
    return [1 / (1 + len(ids)) for ids in completion_ids]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The user's folder, with what the example names."""
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
        [sys.executable, "-m", "pipeline", *arguments, "--profile", "mine.yaml"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_check_says_what_is_drawn_and_what_is_evaluated(folder):
    said = " ".join(pipeline(folder, "check").split())
    assert "16 prompts from 20 questions, so each is drawn 0.8 times" in said
    assert "evaluate.reasoning: 6 of 6 questions of jsonl:data/exam.jsonl are evaluated" in said
    assert "none of your questions" not in said
