"""A short `make chaos`: the first stages at smoke size, killed a few times and compared with an undisturbed climb."""

import json
import os
import subprocess
import sys
from pathlib import Path


def test_a_climb_that_is_killed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    (tmp_path / "configs").symlink_to(Path("configs").resolve())
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.chaos", "--kills", "3", "--target", "cold-start-sft",
         "--results", "chaos.json"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=3600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "chaos.json").read_text())
    assert len(result["list"]) == 3 and result["orphans"] == 0
    for climb in result["climbs"].values():
        assert climb["rows"] > 300
        assert not any(found for name, found in climb.items() if name != "rows")
