"""A process's place among those of its run, its GPU, and batches that divide among them."""

import os
import subprocess
import sys

import pytest

from pipeline.checks.profile import check_processes
from pipeline.config.loading import load_profile
from pipeline.core.crew import Crew
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.ranks import rows_in_a_pass, use_one_gpu


@pytest.mark.parametrize(("seen", "left"), [(None, "0"), ("2,3", "2"), ("GPU-a,GPU-b", "GPU-a"), ("", "")])
def test_a_process_that_is_alone_sees_one_gpu(monkeypatch, seen, left):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if seen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    use_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == left


def test_one_of_several_keeps_all_gpus_in_sight(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    use_one_gpu()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_more_processes_than_gpus_are_refused(monkeypatch):
    for name, value in {"RANK": 3, "WORLD_SIZE": 4, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(RunError, match=r"4 processes .* 2 of its GPUs.*PROCESSES=2"):
        Crew.join()


def test_alone_everything_is_a_plain_call():
    crew, context = Crew(), object()
    assert crew.leads
    assert crew.together(context, lambda given, x: (given, x), {"x": 1}) == (context, 1)
    assert crew.gather("mine") == ["mine"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("stages.reasoning_rl.grpo.prompts_per_step", 6),
        ("stages.sft.sft.batch_size", 10),
        ("stages.reward_model.batch_size", 6),
    ],
)
def test_what_does_not_divide_is_named(key, value):
    overrides = [f"{key}={value}"] + ([f"{key.rpartition('.')[0]}.rows_per_device=5"] if "sft" in key else [])
    overrides += [f"{key.rpartition('.')[0]}.pairs_per_device=1"] if "reward_model" in key else []
    profile = load_profile("smoke", overrides).profile
    with pytest.raises(ConfigError, match=key):
        check_processes(profile, 4)
    check_processes(profile, 1)


@pytest.mark.parametrize("name", ["qwen2.5-7b", "qwen2.5-7b-full", "qwen2.5-32b", "pocket", "smoke"])
def test_a_profile_divides_among_the_gpus_that_it_is_made_for(name):
    profile = load_profile(name).profile
    check_processes(profile, profile.made_for.gpus if profile.made_for else 2)


@pytest.mark.parametrize(
    ("batch", "most", "processes", "rows"), [(24, 4, 4, 3), (16, 16, 1, 16), (16, 5, 2, 4), (7, 4, 1, 1)]
)
def test_passes_make_up_the_batch(batch, most, processes, rows):
    assert rows_in_a_pass(batch, most, processes) == rows


WAITING = """
import sys, time
from pathlib import Path
from pipeline.core import crew as crew_module, watchdog
from pipeline.core.crew import Crew

class Clock:
    # Stands still but for what it is told.
    def __init__(self):
        self.now = time.monotonic()
    def __call__(self):
        return self.now

waited, beats = Path(sys.argv[1]), []

def beat_and_wait_almost_too_long(*_):
    beat()
    clock.now += 0.9
    beats.append(clock.now)
    if len(beats) == 10:
        waited.touch()

def work(context):
    while crew.leads and not waited.exists():
        time.sleep(0.01)
    return crew.rank

crew = Crew.join()
clock = time.monotonic = Clock()
watchdog.GRACE_S = 3600
with watchdog.watching(1.0, 2.0):
    if crew.leads:
        assert crew.together(None, work, {}) == 0
        crew.send(None)
    else:
        beat, crew_module.beat = crew_module.beat, beat_and_wait_almost_too_long
        crew.follow(None)
crew.leave()
"""


def test_a_process_that_waits_for_another_is_not_stuck(tmp_path):
    """By its own clock it waits more than four times as long as its watchdog would let it do nothing."""
    (tmp_path / "waiting.py").write_text(WAITING)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", tmp_path / "waiting.py",
         tmp_path / "waited"],
        capture_output=True, text=True, timeout=900, env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "waited").exists()
    assert "Stuck" not in done.stderr
