"""How threads wait for each other on a machine that other work uses too."""

import os
import subprocess
import sys

import pytest

from pipeline.core import cores
from pipeline.core.cores import FREE_TICKS, Sharing, Waited, sharing_cores

TEAM = """
import os
import torch
from pipeline.core.cores import Sleep, core_count, libgomps

def threads():
    return len(os.listdir("/proc/self/task"))

def work():
    torch.manual_seed(0)
    return (torch.randn(300, 70000).sum(1) + torch.randn(300)).tolist()

torch.set_num_threads(2)
awake, before = work(), threads()
sleep = Sleep()
sleep.open()
assert len(libgomps()) >= 1 and threads() == before + len(libgomps()) * (core_count() + 1), (before, threads())
sleep.open()
asleep = work()
sleep.close()
while threads() > before:
    os.sched_yield()
assert asleep == awake == work()
"""


def answers(shares) -> list:
    sharing = Sharing()
    return [(sharing.update(share), sharing.shared) for share in shares]


def test_cores_are_shared_once_tasks_wait_half_of_the_time():
    assert answers([0.1, 0.4, 0.6, 0.9]) == [(True, False), (False, False), (True, True), (False, True)]


def test_cores_are_free_again_only_when_they_stay_so():
    calm = [0.1] * (FREE_TICKS - 1)
    assert answers([0.9, *calm, 0.3, *calm])[-1] == (False, True)
    assert answers([0.9, *calm, 0.1])[-1] == (True, False)


def test_pressure_is_the_share_of_the_time_in_which_some_task_waited(tmp_path, monkeypatch):
    clock, file = iter([100.0, 104.0]), tmp_path / "cpu"
    monkeypatch.setattr(cores, "PRESSURE", file)
    monkeypatch.setattr(cores.time, "monotonic", lambda: next(clock))
    file.write_text("some avg10=99.00 avg60=99.00 avg300=99.00 total=5000000\nfull avg10=0.00 total=0\n")
    waited = Waited()
    file.write_text("some avg10=99.00 avg60=99.00 avg300=99.00 total=6000000\nfull avg10=0.00 total=0\n")
    assert waited.look() == pytest.approx(0.25)


@pytest.mark.parametrize(("load", "share"), [(2.0, 0.0), (6.0, 0.5), (40.0, 1.0)])
def test_without_pressure_figures_the_load_is_taken(tmp_path, monkeypatch, load, share):
    monkeypatch.setattr(cores, "PRESSURE", tmp_path / "none")
    monkeypatch.setattr(cores, "core_count", lambda: 4)
    monkeypatch.setattr(cores.os, "getloadavg", lambda: (load, 0, 0))
    assert Waited().look() == share


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="libgomp's threads are counted in /proc")
def test_an_idle_team_stands_in_libgomp_meanwhile_and_no_result_changes():
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, "-c", TEAM], env=environment | {"PYTHONPATH": "."}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("name", "value"), [("OMP_WAIT_POLICY", "ACTIVE"), ("OMP_NUM_THREADS", "1")])
def test_what_the_environment_says_is_left(monkeypatch, name, value):
    monkeypatch.setattr(cores, "core_count", lambda: 4)
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "OMP_NUM_THREADS"):
        monkeypatch.delenv(variable, raising=False)
    followed = []
    monkeypatch.setattr(cores, "_follow", lambda ended, tick_s: followed.append(tick_s))
    with sharing_cores():
        pass
    assert len(followed) == 1
    monkeypatch.setenv(name, value)
    with sharing_cores():
        pass
    assert len(followed) == 1
