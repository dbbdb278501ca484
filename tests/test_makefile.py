"""What a user types after `make`: every stage by both its spellings, and no variable that nothing reads.

`make -n` prints what would be run, so that nothing here needs or makes a `.venv`.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.ladder import LADDER, REPORT

ROOT = Path(__file__).resolve().parents[1]
RUN = re.compile(r"-m pipeline (.*)")


def make(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=folder, capture_output=True, text=True, env=inherited | environment, timeout=900
    )


def commands(*arguments: str, **options) -> list[str]:
    """What `make` would run of the pipeline."""
    done = make("-n", *arguments, **options)
    assert done.returncode == 0, done.stderr
    return RUN.findall(done.stdout)


@pytest.fixture
def bare(tmp_path):
    """A checkout without `.venv`."""
    (tmp_path / "pipeline").mkdir()
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pipeline" / "ladder.py", tmp_path / "pipeline")
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    return tmp_path


@pytest.mark.parametrize("stage", [stage for stage in LADDER if stage is not REPORT], ids=lambda stage: stage.id)
def test_every_stage_is_a_target_by_both_spellings(bare, stage):
    by_id, by_target = commands(stage.id, folder=bare), commands(stage.target, folder=bare)
    assert by_id == by_target
    assert by_id[-1].startswith(f"run {stage.target} ")


def test_other_targets_have_both_spellings_too(bare):
    assert commands("check_reward", "REWARD=accuracy", folder=bare) == commands(
        "check-reward", "REWARD=accuracy", folder=bare
    )


def test_help_lists_the_stages_in_the_order_of_the_ladder_before_there_is_a_venv(bare):
    done = make("help", folder=bare)
    assert done.returncode == 0, done.stderr
    listed = done.stdout.partition("  stages, ")[2].split("\n", 1)[1].split()
    assert listed == [stage.target for stage in LADDER if stage is not REPORT]
    assert not (bare / ".venv").exists()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("PROFIL=x", "PROFILE"), ("PROFLE=own.yaml", "PROFILE"), ("profile=x", "PROFILE"), ("SEDE=1", "SEED"),
        ("PROCESES=2", "PROCESSES"), ("STUDNT=qwen", "STUDENT"), ("RUNN=a b", "RUN"),
    ],
)  # fmt: skip
def test_a_mistyped_variable_is_refused_with_the_nearest_one(given, meant):
    done = make("-n", "all", given)
    assert done.returncode == 2
    assert f"No variable {given.partition('=')[0]}. Did you mean {meant}?" in done.stderr
    assert "pipeline run" not in done.stdout


def test_an_unknown_variable_is_refused_with_the_list_and_how_to_set_the_environment():
    done = make("-n", "all", "HF_TOKEN=secret")
    assert done.returncode == 2
    assert "HF_TOKEN=… make" in done.stderr and " PROFILE " in done.stderr
    assert "secret" not in done.stderr


def test_variables_of_the_environment_are_not_checked():
    assert commands("all", PROFIL="x", profile="y", unknown="z")


def test_every_variable_that_is_read_is_known():
    names = set(re.findall(r"\$\(([A-Z]+)\)", (ROOT / "Makefile").read_text(encoding="utf-8")))
    assert len(names) > 20
    assert commands("status", *(f"{name}=python3" for name in sorted(names)))


def test_llama_cpp_is_fetched_for_a_file_alone(bare):
    fetched = [make("-n", "chat", f"MODEL={model}", folder=bare).stdout for model in ("r1-zero", "a/model.gguf")]
    assert ["'gguf'" in text for text in fetched] == [False, True]


def test_servers_are_said_as_settings_of_the_engine(bare):
    for given, meant in (
        ("2", "engine.kind=vllm-server engine.servers=2"),
        ("http://a:8000  http://b:8000", "engine.kind=vllm-server engine.server_urls=[http://a:8000,http://b:8000]"),
    ):
        (bare / "Makefile").write_text((ROOT / "Makefile").read_text() + '\nsaid:\n\t@echo "$$LADDER_SET"\n')
        done = make("said", f"SERVERS={given}", "SET=seed=3", folder=bare)
        assert done.stdout.strip() == f"seed=3 {meant}", done.stderr
