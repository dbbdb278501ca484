"""The SkyPilot job: what it asks for, and that a machine that follows one that was taken away has its run."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

TASK = yaml.safe_load((Path(__file__).resolve().parents[1] / "configs" / "sky" / "ladder.yaml").read_text())
STAND_INS = {
    "bin/rsync": 'from=$(eval echo "\\$$(($# - 1))") to=$(eval echo "\\$$#")\n'
    'mkdir -p "$to" && find "$to" -mindepth 1 -delete && cp -a "$from." "$to"',
    ".venv/bin/python": 'echo "$*" >> ../calls; ls runs >> ../seen; mkdir runs/$ATTEMPT; [ "$ATTEMPT" != taken-away ]',
}


@pytest.fixture
def machine(tmp_path):
    """Runs the job's command on a new machine: how it ended. The bucket outlives the machine."""
    home = tmp_path / "home"
    (home / "kept").mkdir(parents=True)

    def machine(attempt: str, nodes: int = 1, **chosen: str) -> subprocess.CompletedProcess:
        folder = tmp_path / attempt
        for name, body in STAND_INS.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"#!/bin/sh\n{body}\n")
            (folder / name).chmod(0o755)
        given = {
            "PATH": f"{folder}/bin:{os.environ['PATH']}", "HOME": str(home), "ATTEMPT": attempt,
            "SKYPILOT_NUM_NODES": str(nodes), "SKYPILOT_NODE_RANK": str(nodes - 1), "SKYPILOT_NUM_GPUS_PER_NODE": "8",
            "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        }  # fmt: skip
        return subprocess.run(
            ["bash", "-c", TASK["run"]], cwd=folder, env=os.environ | TASK["envs"] | given | chosen,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    return machine


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_it_runs_on_spot_machines_and_is_started_again_on_others():
    asked = TASK["resources"]
    assert asked["use_spot"] is True
    assert asked["job_recovery"] == {"strategy": "EAGER_NEXT_REGION", "max_restarts_on_errors": 3}
    assert TASK["file_mounts"]["~/kept"]["name"] == "${BUCKET}" and TASK["envs"]["BUCKET"]


def test_the_machine_that_follows_has_what_the_one_before_made(machine, tmp_path):
    assert machine("taken-away").returncode == 1
    done = machine("follows", PROFILE="p", SET="seed=3 x=[1, 2]")
    assert done.returncode == 0, done.stderr
    assert lines(tmp_path / "seen") == ["taken-away"]
    assert sorted(path.name for path in (tmp_path / "home" / "kept").iterdir()) == ["follows", "taken-away"]
    call = lines(tmp_path / "calls")[-1]
    assert "--nnodes 1 --node-rank 0 --nproc-per-node 8 --master-addr 10.0.0.1 " in call
    assert call.endswith("pipeline run all --profile p --run  --set seed=3 x=[1, 2]")


def test_several_machines_work_on_a_common_disk(machine, tmp_path):
    done = machine("second", nodes=2, SHARED=str(tmp_path / "disk"))
    assert done.returncode == 0, done.stderr
    assert [path.name for path in (tmp_path / "disk" / "runs").iterdir()] == ["second"]
    assert "--nnodes 2 --node-rank 1" in lines(tmp_path / "calls")[0]


def test_several_machines_without_one_are_refused(machine, tmp_path):
    done = machine("second", nodes=2)
    assert done.returncode == 2 and "SHARED=FOLDER" in done.stderr
    assert not (tmp_path / "calls").exists()
