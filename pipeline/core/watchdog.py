"""Says which phase of a stage is stuck, for how long and where, and ends the run when it stays so.

    with watching(warn_s=300, stop_s=3600):
        with dumps_to(stage_folder / "log.txt"), phase("generation"):
            ...
            beat()

A phase is stuck when nothing was begun, ended or beaten for `warn_s` seconds, not when it merely takes long. At
`stop_s` the main thread gets a RunError. Where it does not react, being in native code, the process ends with exit
code 1; where native code even holds Python's lock, so that no Python thread can run, `faulthandler`'s C thread ends it.
Stack dumps go through a process of its own (`watchdog_teller.py`) to the terminal and to the stage's log, so that the
phase is named even then. Time is monotonic: a clock that is set changes nothing.
"""

import contextlib
import faulthandler
import fcntl
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.console import LOGGER
from pipeline.core.errors import RunError

GRACE_S = 20.0
"""How long the main thread has to react to the RunError before the process is ended."""
TELLER = Path(__file__).with_name("watchdog_teller.py")
PIPE_BYTES = 1 << 20
"""Room for a dump of many threads, so that writing it never waits."""


class _Main:
    """The phase that the main thread is in, when it last made progress, and where stalls are reported."""

    def __init__(self):
        self.phases: list[str] = []
        self.since = time.monotonic()
        self.teller: int | None = None

    @property
    def phase(self) -> str:
        return " in ".join(reversed(self.phases)) or "between phases"

    def moved(self) -> None:
        self.since = time.monotonic()
        self.tell("phase", self.phase)

    def tell(self, what: str, value: str) -> None:
        if self.teller is not None:
            with contextlib.suppress(OSError):  # a teller that is gone must not stop the run
                os.write(self.teller, f"\0{what} {value}\n".encode())


_main = _Main()


@contextlib.contextmanager
def phase(name: str) -> Iterator[None]:
    """What the main thread is doing inside. Phases nest: "generation in evaluation". Elsewhere it changes nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _main.phases.append(name)
    _main.moved()
    try:
        yield
    finally:
        _main.phases.pop()
        _main.moved()


def beat(*_) -> None:
    """Something was done in the phase under way. Costs a fraction of a microsecond; arguments are ignored."""
    _main.since = time.monotonic()


@contextlib.contextmanager
def dumps_to(log: Path) -> Iterator[None]:
    """Stack dumps also go to the end of this file meanwhile."""
    _main.tell("log", str(log.resolve()))
    try:
        yield
    finally:
        _main.tell("log", "")


@contextlib.contextmanager
def watching(warn_s: float, stop_s: float | None) -> Iterator[None]:
    """Watches the main thread, which must be the one that calls this. Raises RunError inside once `stop_s` is passed.

    Does nothing where a watchdog is at work already.
    """
    if _main.teller is not None:
        yield
        return
    with _telling() as teller:
        watcher = _Watcher(warn_s, stop_s, teller)
        before = signal.signal(signal.SIGUSR2, watcher.raise_stuck)
        _main.moved()
        watcher.expect_next_tick()
        watcher.start()
        try:
            yield
        finally:
            watcher.stop()
            signal.signal(signal.SIGUSR2, before)


class _Watcher(threading.Thread):
    def __init__(self, warn_s: float, stop_s: float | None, teller: int):
        super().__init__(name="watchdog", daemon=True)
        self._warn_s, self._stop_s, self._teller = warn_s, stop_s, teller
        self._over = threading.Event()
        self._message = ""

    def run(self) -> None:
        tick, warned = min(1.0, self._warn_s / 4), None
        while not self._over.wait(tick):
            self.expect_next_tick()
            since = _main.since
            quiet = time.monotonic() - since
            if self._stop_s is not None and quiet >= self._stop_s:
                self._end_run(quiet)
                return
            if quiet >= self._warn_s and warned != since:
                warned = since
                self._say(quiet, "Still waiting")

    def expect_next_tick(self) -> None:
        """For the case that native code keeps this thread from ticking: then a C thread ends the process."""
        if self._stop_s is not None:
            faulthandler.dump_traceback_later(self._stop_s + GRACE_S, exit=True, file=self._teller)

    def stop(self) -> None:
        self._over.set()
        self.join()
        faulthandler.cancel_dump_traceback_later()

    def raise_stuck(self, *_) -> None:
        raise RunError(self._message)

    def _say(self, quiet: float, what_follows: str) -> None:
        logging.getLogger(LOGGER).warning(
            "Stuck for %.0f s in the phase: %s. %s. Every thread:", quiet, _main.phase, what_follows
        )
        faulthandler.dump_traceback(file=self._teller, all_threads=True)

    def _end_run(self, quiet: float) -> None:
        self._message = (
            f"The run was stuck for {quiet:.0f} s in the phase: {_main.phase} (watchdog.stop_s is {self._stop_s:g}). "
            "The stacks of all threads are above and in the stage's log.txt. The last checkpoint is kept: run the same "
            "command to go on, or raise watchdog.stop_s if this may take so long."
        )
        self._say(quiet, "Ending the run")
        signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR2)
        if self._over.wait(GRACE_S):
            return
        logger = logging.getLogger(LOGGER)
        logger.error("%s The main thread does not react, so the process is ended.", self._message)
        for handler in logger.handlers:
            handler.flush()
        os._exit(RunError.exit_code)


@contextlib.contextmanager
def _telling() -> Iterator[int]:
    """Starts the teller and gives the file descriptor that it reads from."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", str(TELLER)], stdin=subprocess.PIPE, stdout=2, start_new_session=True
    )
    _main.teller = process.stdin.fileno()
    fcntl.fcntl(_main.teller, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.set_blocking(_main.teller, False)
    try:
        yield _main.teller
    finally:
        _main.teller = None
        process.stdin.close()
        process.wait()
