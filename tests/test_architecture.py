"""The import contracts of pyproject.toml, and what reading a profile may load."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "trl", "vllm", "datasets", "peft", "rich"}


def test_the_import_contracts_hold():
    """`pipeline.runs` loads stages by name, so that no import points up."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_reading_a_profile_loads_no_runtime(profile):
    """At run time too: the contract above reads only the imports that are written."""
    code = (
        "import sys; from pipeline.config.loading import load_profile; load_profile(sys.argv[1]); "
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, profile], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""
