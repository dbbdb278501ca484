"""A process that gets stuck, each time in another way: what it says, where, and how it ends."""

import subprocess
import sys
from pathlib import Path
from string import Template

import pytest

from pipeline.core import watchdog

PROGRAM = """
import ctypes, sys, threading, time
from pathlib import Path
from pipeline.core import watchdog
from pipeline.core.console import logged_to, set_up_logging
from pipeline.core.errors import LadderError

def deadlock(library):
    mutex = ctypes.create_string_buffer(64)
    library.pthread_mutex_lock(mutex)
    library.pthread_mutex_lock(mutex)

class Clock:
    # Stands still but for what it is told, and counts how often the watchdog has looked at it.
    def __init__(self):
        self.now, self.looks = time.monotonic(), 0
    def __call__(self):
        self.looks += threading.current_thread().name == "watchdog"
        return self.now

def beat_often():
    clock = time.monotonic = Clock()
    watchdog.beat()
    while clock.looks < 20:
        clock.now += 0.25
        watchdog.beat()
        time.sleep(0.01)

def wait_for_warning():
    while "Stuck for" not in log.read_text():
        time.sleep(0.05)
    time.sleep(0.3)

def jump():
    real = time.time
    time.time = lambda: real() + 1e6
    time.sleep(0.1)

watchdog.GRACE_S = $grace
set_up_logging()
log = Path("log.txt")
threading.Thread(target=time.sleep, args=(3600,), name="bystander", daemon=True).start()
try:
    with watchdog.watching($warn, $stop), logged_to(log), watchdog.dumps_to(log):
        with watchdog.phase("evaluation"), watchdog.phase("generation"):
            $body
except LadderError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(error.exit_code)
print("went on")
"""
HANG_S = 300
"""Seconds after which a program is taken for one that never ends."""


def run(body: str, folder: Path, warn=0.3, stop=1.0, grace=0.6) -> tuple[subprocess.CompletedProcess, str]:
    program = Template(PROGRAM).substitute(body=body, warn=warn, stop=stop, grace=grace)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env={"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=HANG_S,
    )  # fmt: skip
    return done, (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("time.sleep(3600)", "<module>"),
        ("deadlock(ctypes.CDLL(None))", "deadlock"),  # native code that lets other Python threads run
        ("deadlock(ctypes.PyDLL(None))", "deadlock"),  # native code that holds Python's lock
    ],
    ids=["python", "native", "native with the lock"],
)
def test_a_stuck_run_ends_with_exit_code_1_and_names_phase_and_place(tmp_path, body, function):
    done, log = run(body, tmp_path)
    assert done.returncode == 1, done.stderr
    for said in (done.stderr, log):
        assert "in the phase: generation in evaluation" in said
        assert f"in {function}" in said
        assert said.count("Thread 0x") >= 2
    assert "The last checkpoint is kept" in " ".join(done.stderr.split())  # the terminal breaks lines


def test_a_slow_phase_is_warned_of_once_and_goes_on(tmp_path):
    done, log = run("wait_for_warning()", tmp_path, stop=None)
    assert done.returncode == 0 and "went on" in done.stdout
    assert log.count("Stuck for") == 1 and "Still waiting" in log


def test_a_phase_that_beats_is_not_stuck(tmp_path):
    done, log = run("beat_often()", tmp_path, grace=HANG_S)
    assert done.returncode == 0, done.stderr
    assert log == ""


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    done, log = run("jump()", tmp_path, warn=HANG_S, stop=2 * HANG_S)
    assert done.returncode == 0 and log == ""


def test_phases_end_with_their_errors():
    with pytest.raises(KeyError), watchdog.phase("update"):
        raise KeyError
    assert watchdog._main.phases == []
