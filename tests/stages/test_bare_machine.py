"""A stage with vLLM on a machine that has no compiler, in a folder whose path has blanks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.files import read_json_lines

COMPILER = re.compile(r"(.*-)?(cc|gcc|g\+\+|c\+\+|cpp|clang|clang\+\+|clang-cl|icx|icpx)([-.0-9]*)")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """This checkout and its environment under a path with blanks."""
    folder = tmp_path / "a folder of mine"
    folder.mkdir()
    for name in ("configs", "data_recipes", "pipeline", "rewards", "stages"):
        (folder / name).symlink_to(Path(name).resolve())
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


@pytest.fixture
def programs(tmp_path) -> Path:
    """Every program of the PATH but the compilers."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        for program in Path(place).glob("*"):
            if not COMPILER.fullmatch(program.name) and not (folder / program.name).is_symlink():
                (folder / program.name).symlink_to(program)
    assert (folder / "sh").exists() and not (folder / "g++").exists()
    return folder


def test_r1_zero_needs_no_compiler_and_no_plain_path(checkout, programs, tmp_path):
    without = ("CC", "CXX", "LD_PRELOAD", "PYTHONPATH", "TORCHDYNAMO_DISABLE")
    environment = {name: value for name, value in os.environ.items() if name not in without}
    environment |= {"PATH": str(programs), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "inductor"), "HOME": str(tmp_path)}
    steps = "stages.r1_zero.grpo.max_steps=1 stages.r1_zero.heldout=null"
    done = subprocess.run(
        [checkout / ".venv/bin/python", "-m", "pipeline", "run", "r1_zero", "--profile", "smoke", "--set", steps],
        cwd=checkout, capture_output=True, text=True, timeout=3600, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ld.so" not in done.stdout + done.stderr
    steps = [row["step"] for _, row in read_json_lines(checkout / "runs/smoke/r1_zero/metrics.jsonl")]
    assert steps == [1]
