"""Ctrl-C for tests."""

import contextlib
import signal
from collections.abc import Iterator

from pipeline.core.stopping import heeding_interrupts


def press() -> None:
    signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def interrupts_heeded() -> Iterator[None]:
    """As in a command that was started on a terminal: a job in the background ignores them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with heeding_interrupts():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
