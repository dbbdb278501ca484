"""Writing a rollout ahead, in a thread, while the trainer updates."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import torch

from pipeline.core.watchdog import phase
from pipeline.engines import Completion, OnGroup


class _GivenUp(Exception):
    """Ends the thread's rollout, which nobody will take."""


class WritingAhead:
    """One rollout at a time: `start` begins it, `take` waits for it.

    The engine serves one caller at a time, so whoever else wants it calls `settle` first. `close` ends the thread, and
    must be called however training ends: from then on the engine is others'.
    """

    def __init__(self, device: torch.device):
        on_gpu = {"initializer": torch.cuda.set_device, "initargs": (device,)} if device.type == "cuda" else {}
        self._thread = ThreadPoolExecutor(1, "rollout", **on_gpu)  # a thread starts on the first GPU
        self._started: tuple[int, Future] | None = None
        self._closing = threading.Event()

    def start(self, step: int, write: Callable[..., Any], *arguments: Any) -> None:
        """Begin `write(*arguments)`, the rollout due at `step`."""
        self._started = step, self._thread.submit(write, *arguments)

    def settle(self) -> float:
        """Wait until the engine is free; the seconds that it took."""
        if self._started is None or self._started[1].done():
            return 0.0
        began = time.perf_counter()
        with phase("generation"):
            wait([self._started[1]])
        return time.perf_counter() - began

    def take(self, step: int) -> Any:
        """What was written for `step`, once `settle` has waited for it; None where nothing was begun for it."""
        if self._started is None or self._started[0] != step:
            return None
        (_, future), self._started = self._started, None
        return future.result()

    def until_closed(self, on_group: OnGroup | None) -> OnGroup:
        """`on_group`, which ends the engine's work once this is closed."""

        def passed_on(place: int, group: list[Completion]) -> None:
            if self._closing.is_set():
                raise _GivenUp
            if on_group:
                on_group(place, group)

        return passed_on

    def close(self) -> None:
        """Give up what is being written, at its next finished group, and end the thread."""
        self._closing.set()
        with phase("generation"):
            self._thread.shutdown(wait=True, cancel_futures=True)
        self._started = None
