"""What Ctrl-C does. The first one lets the work under way reach a point that a resumed run goes on from, where there is
such a point; the second ends it at once, and so does the first elsewhere.

    with heeding_interrupts():                          # once a command
        with finishing("the step under way"):
            while steps_are_left() and not stop_asked():
                make_a_step()
        raise_if_stopped()
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path


class _Interrupts:
    """What the main thread may finish first, the innermost last, and whether it has been asked to stop."""

    def __init__(self):
        self.finishing: list[str] = []
        self.asked = False

    def heed(self, *_) -> None:
        """The handler of SIGINT. Raises KeyboardInterrupt where there is nothing to finish, and at the second one."""
        if self.finishing and not self.asked:
            self.asked = True
            tell(f"Stopping after {self.finishing[-1]}. Press Ctrl-C again to end at once.")
            return
        tell("Stopping at once.")
        raise KeyboardInterrupt


_interrupts = _Interrupts()


def tell(message: str) -> None:
    """To the terminal, past every buffer and lock that the interrupted code may hold."""
    with contextlib.suppress(OSError):
        os.write(2, f"\n{message}\n".encode())


@contextlib.contextmanager
def heeding_interrupts() -> Iterator[None]:
    """SIGINT does meanwhile what this file says. Not in a thread, nor in a process that was started to ignore it."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, _interrupts.heed):
        yield
        return
    before = signal.signal(signal.SIGINT, _interrupts.heed)
    _interrupts.asked = False
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        _interrupts.asked = False


@contextlib.contextmanager
def finishing(what: str) -> Iterator[None]:
    """Inside, the first Ctrl-C only makes `stop_asked()` true: whoever opens this looks at it whenever `what` is done,
    leaves, and calls `raise_if_stopped()`."""
    _interrupts.finishing.append(what)
    try:
        yield
    finally:
        _interrupts.finishing.pop()


def stop_asked() -> bool:
    return _interrupts.asked


def raise_if_stopped(asked: bool = False) -> None:
    """Raises KeyboardInterrupt where a stop was asked for, here or (`asked`) in another process of the run."""
    if asked or _interrupts.asked:
        raise KeyboardInterrupt


@contextlib.contextmanager
def passing_interrupts_on() -> Iterator[None]:
    """SIGINT goes on to the processes that this one has started, once each time, and they say what happens.

    For torch's launcher, which gives each process a session of its own, out of the terminal's reach. By itself it would
    pass the first one on and kill whatever still runs 30 s later.
    """

    def pass_on(*_) -> None:
        started = [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
        if not started:
            raise KeyboardInterrupt
        for pid in started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        yield
        return
    before = signal.signal(signal.SIGINT, pass_on)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
