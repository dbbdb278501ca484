"""Lets the threads of one operation wait for each other as suits the machine: awake while its cores are free, asleep
while other work shares them.

Threads that wait awake (libgomp's default, 300,000 rounds of a loop) go on at once, and on a quiet machine a step is a
third faster for it. Beside other work each holds the core that the thread it waits for would need, and a step takes
ten times as long and more. The number of threads stays the same in both, and so does every result, bit for bit.

libgomp reads its settings when it is loaded. But a thread that waits looks whether the program has more OpenMP threads
than there are cores, and then goes to sleep after 100 rounds. So that is arranged while cores are shared: by a team of
one thread more than there are cores, which does nothing.
"""

import contextlib
import ctypes
import logging
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.console import LOGGER

PRESSURE = Path("/proc/pressure/cpu")
MAPPED = Path("/proc/self/maps")
TICK_S = 5.0

SHARED_ABOVE = 0.5
"""Share of the time in which some task waited for a core, from which on the cores count as shared."""

FREE_BELOW = 0.2
FREE_TICKS = 6
"""For so many ticks in a row the share must be below `FREE_BELOW` before the cores count as free again."""

OWN_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
"""Whoever sets one of these variables has chosen."""


class Sharing:
    """Whether the cores are shared, by the share of time in which some task waited for one."""

    def __init__(self):
        self.shared: bool | None = None
        self._calm = 0

    def update(self, waited: float) -> bool:
        """Whether this changed the answer. `waited` is a share, 0..1."""
        before = self.shared
        self._calm = self._calm + 1 if waited < FREE_BELOW else 0
        if waited > SHARED_ABOVE:
            self.shared = True
        elif before is None or self._calm >= FREE_TICKS:
            self.shared = False
        return self.shared is not before


class Waited:
    """The share of time since the last look in which some task of this machine waited for a core.

    By the kernel's pressure figures, or where it has none by the load: one at half as many tasks again as cores is 0.5.
    """

    def __init__(self):
        self._before = self._total()

    def look(self) -> float:
        now, (then, total) = self._total(), self._before
        self._before = now
        if now[1] is None or total is None:
            return min(1.0, max(0.0, os.getloadavg()[0] / core_count() - 1))
        return (now[1] - total) / 1e6 / max(now[0] - then, 1e-3)

    @staticmethod
    def _total() -> tuple[float, int | None]:
        """(seconds on a clock, microseconds in which some task waited)."""
        try:
            some = PRESSURE.read_text(encoding="ascii").splitlines()[0]
        except OSError:
            return time.monotonic(), None
        return time.monotonic(), int(some.rpartition("total=")[2])


class Sleep:
    """While it is open, threads of this process that wait for each other inside libgomp do so asleep."""

    def __init__(self):
        self._teams: dict[str, threading.Event] = {}

    def open(self) -> None:
        """Also for copies of libgomp that were loaded since it was opened."""
        for library in libgomps():
            if library not in self._teams:
                self._teams[library] = ended = threading.Event()
                ready = threading.Event()
                threading.Thread(target=_hold_team, args=(library, ready, ended), daemon=True).start()
                ready.wait()

    def close(self) -> None:
        for ended in self._teams.values():
            ended.set()
        self._teams.clear()


def _hold_team(library: str, ready: threading.Event, ended: threading.Event) -> None:
    """Start a team that does nothing. Its threads belong to this one, and end with it."""
    libgomp = ctypes.CDLL(library)
    nothing = ctypes.cast(libgomp.omp_get_num_threads, ctypes.c_void_p)
    libgomp.GOMP_parallel(nothing, None, core_count() + 1, 0)
    ready.set()
    ended.wait()


def libgomps() -> list[str]:
    """Paths of the copies of GNU's OpenMP library that this process has loaded."""
    try:
        lines = MAPPED.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[5] for line in lines if "/libgomp" in line}
    return sorted(path for path in paths if "libgomp" in Path(path).name and Path(path).is_file())


def core_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def sharing_cores(tick_s: float = TICK_S) -> Iterator[None]:
    """Follows the machine meanwhile, and says in the log what is chosen and why.

    Nothing is done where OpenMP has one thread only, or where the environment says how threads are to wait.
    """
    if core_count() == 1 or os.environ.get("OMP_NUM_THREADS") == "1" or any(map(os.environ.get, OWN_SETTINGS)):
        yield
        return
    ended = threading.Event()
    follower = threading.Thread(target=_follow, args=(ended, tick_s), name="cores", daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()


def _follow(ended: threading.Event, tick_s: float) -> None:
    waited, sharing, sleep = Waited(), Sharing(), Sleep()
    try:
        while not ended.wait(tick_s):
            share = waited.look()
            if not libgomps():
                continue
            changed = sharing.update(share)
            if sharing.shared:
                sleep.open()
            elif changed:
                sleep.close()
            if changed:
                logging.getLogger(LOGGER).info("%s", in_words(sharing.shared, share))
    finally:
        sleep.close()


def in_words(shared: bool, share: float) -> str:
    if shared:
        return f"cores: shared with other work (some task waits {share:.0%} of the time), so threads wait asleep"
    return f"cores: free (some task waits {share:.0%} of the time), so threads wait awake"
