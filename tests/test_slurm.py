"""Which node does what where some nodes of a Slurm job serve. `tests/stages/test_processes.py` runs a job for real."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "configs" / "slurm" / "nodes.sbatch"
STAND_INS = {
    "srun": 'printf "%s\\n" "$*" >> calls; case "$*" in *tools.serve*) exec sleep 600;; esac',
    "scontrol": "printf '%s\\n' a b c d",
    "curl": "grep -q tools.serve calls",  # they answer once they have been started
}


@pytest.fixture
def submitted(tmp_path):
    """Runs the script on four nodes of eight GPUs: (how it ended, what `srun` was called with)."""
    for name, body in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    job = {"SLURM_JOB_NODELIST": "[a-d]", "SLURM_NNODES": "4", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "64"}

    def submitted(**chosen: str):
        environment = os.environ | job | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PROFILE": "p"} | chosen
        done = subprocess.run(["bash", SCRIPT], cwd=tmp_path, capture_output=True, text=True, env=environment)
        calls = tmp_path / "calls"
        return done, calls.read_text().splitlines() if calls.is_file() else []

    return submitted


def test_the_last_nodes_serve_and_the_others_train_on_their_addresses(submitted):
    done, calls = submitted(SERVER_NODES="2", GPUS_PER_SERVER="4", SET="seed=3")
    assert done.returncode == 0, done.stderr
    base, serve, train = sorted(calls, key=lambda call: ("tools.serve" in call) + 2 * ("distributed" in call))
    assert "--nodelist=a " in base and "pipeline run base-model" in base
    assert "--nodelist=c,d " in serve and "engine.servers=2 engine.gpus_per_server=4" in serve
    assert "--nodelist=a,b " in train and "--nnodes 2 --nproc-per-node 8" in train
    urls = ",".join(f"http://{node}:{port}" for node in "cd" for port in (8000, 8001))
    assert train.endswith(f"--set seed=3 engine.kind=vllm-server engine.server_urls=[{urls}]")


def test_without_nodes_that_serve_all_of_them_train(submitted):
    done, calls = submitted(SET="seed=3")
    assert done.returncode == 0, done.stderr
    (train,) = calls
    assert "--nnodes 4" in train and train.endswith("--set seed=3") and "engine" not in train


def test_a_job_with_no_node_left_to_train_is_refused(submitted):
    done, calls = submitted(SERVER_NODES="4")
    assert done.returncode == 2 and "leaves none of the 4 nodes for training" in done.stderr
    assert calls == []
