"""What scripts and terminals rely on: JSON, completion, colours, other locales."""

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import main
from pipeline.ladder import LADDER

ROOT = Path(__file__).resolve().parents[2]


def test_status_as_json_names_every_stage(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    assert main(["status", "--json", "--profile", "smoke"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["stages"]) == [stage.id for stage in LADDER]
    assert {stage["state"] for stage in found["stages"].values()} == {"missing"}


def test_check_as_json_is_one_document_and_says_whether_it_fits(capsys):
    assert main(["check", "--json", "--profile", "smoke", "--set", "made_for.gpus=1 made_for.gib=1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] is False and found["device"] == "1 GPU of 1.0 GiB"
    assert {row["stage"] for row in found["memory"]} >= {"r1_zero", "distill", "reward_model"}
    assert all(row["fits"] == (row["gib"]["total"] <= 1) for row in found["memory"])
    assert {row["where"] for row in found["questions"]} >= {"questions.reasoning", "evaluate.reasoning"}


def test_a_locale_that_lacks_characters_ends_no_command(monkeypatch):
    written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", written)
    assert main(["check", "--json", "--profile", "smoke"]) == 0  # its arithmetic has a ×
    written.flush()
    assert b"4 questions ? 4 = 16" in written.buffer.getvalue()


def completed(line: str, word: str) -> list[str]:
    """What bash would offer for the last word of a line."""
    words = [*line.split(), word]
    script = (
        f'eval "$({sys.executable} -m pipeline completion)"\n'
        f"COMP_WORDS=({' '.join(repr(each) for each in words)}); COMP_CWORD={len(words) - 1}\n"
        f"function_of=$(complete -p {words[0]} | sed 's/.*-F //; s/ .*//'); $function_of\n"
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(("line", "word", "offered"), [
    ("make", "r1", {"r1-zero"}),
    ("make check", "PROF", {"PROFILE="}),
    ("make check PROFILE =", "pock", {"pocket"}),
    ("r1-ladder", "stat", {"status"}),
    ("r1-ladder status --profile", "smo", {"smoke", "smollm2-135m"}),
    ("r1-ladder check", "--pro", {"--processes", "--profile"}),
])  # fmt: skip
def test_bash_completes(line, word, offered):
    assert set(completed(line, word)) == offered
