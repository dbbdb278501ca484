"""A process that gets stuck, each time in another way: what it says, where, and how it ends."""

import subprocess
import sys
import time
from pathlib import Path

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

watchdog.GRACE_S = 0.6
set_up_logging()
log = Path("log.txt")
threading.Thread(target=time.sleep, args=(9,), name="bystander", daemon=True).start()
try:
    with watchdog.watching(0.3, STOP), logged_to(log), watchdog.dumps_to(log):
        with watchdog.phase("evaluation"), watchdog.phase("generation"):
            BODY
except LadderError as error:
    print("error:", error, file=sys.stderr)
    sys.exit(error.exit_code)
print("went on")
"""


def run(body: str, folder: Path, stop: float | None = 1.0) -> tuple[subprocess.CompletedProcess, str]:
    program = PROGRAM.replace("BODY", body).replace("STOP", repr(stop))
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, env={"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    return done, (folder / "log.txt").read_text()


@pytest.mark.parametrize(
    ("body", "function"),
    [
        ("time.sleep(15)", "<module>"),
        ("deadlock(ctypes.CDLL(None))", "deadlock"),  # native code that lets other Python threads run
        ("deadlock(ctypes.PyDLL(None))", "deadlock"),  # native code that holds Python's lock
    ],
    ids=["python", "native", "native with the lock"],
)
def test_a_stuck_run_ends_with_exit_code_1_and_names_phase_and_place(tmp_path, body, function):
    started = time.monotonic()
    done, log = run(body, tmp_path)
    assert done.returncode == 1, done.stderr
    assert time.monotonic() - started < 10
    for said in (done.stderr, log):
        assert "in the phase: generation in evaluation" in said
        assert f"in {function}" in said
        assert said.count("Thread 0x") >= 2
    assert "The last checkpoint is kept" in " ".join(done.stderr.split())  # the terminal breaks lines


def test_a_slow_phase_is_warned_of_once_and_goes_on(tmp_path):
    done, log = run("time.sleep(1)", tmp_path, stop=None)
    assert done.returncode == 0 and "went on" in done.stdout
    assert log.count("Stuck for") == 1 and "Still waiting" in log


def test_a_phase_that_beats_is_not_stuck(tmp_path):
    done, log = run("[(time.sleep(0.05), watchdog.beat()) for _ in range(25)]", tmp_path)
    assert done.returncode == 0, done.stderr
    assert log == ""


def test_a_clock_that_jumps_changes_nothing(tmp_path):
    done, log = run("jumped = time.time; time.time = lambda: jumped() + 1e6; time.sleep(0.1)", tmp_path)
    assert done.returncode == 0 and log == ""


def test_phases_end_with_their_errors():
    with pytest.raises(KeyError), watchdog.phase("update"):
        raise KeyError
    assert watchdog._main.phases == []
