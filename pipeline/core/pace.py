"""How long work under way will still take, by the pace of its last steps: the one clock that every display shows."""

import time
from collections import deque
from collections.abc import Callable

STEPS_SEEN = 20
"""So many steps back the pace is taken from: answers grow while a policy learns, and machines get busy."""


class Pace:
    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._marks: deque[tuple[float, float]] = deque(maxlen=STEPS_SEEN + 1)

    def reached(self, done: float) -> None:
        """To be called whenever more is done. What was done at the first call came before: a resumed run goes by its
        own pace."""
        if self._marks and done <= self._marks[-1][0]:
            return
        self._marks.append((done, self._clock()))

    def seconds_left(self, total: float | None) -> float | None:
        """None while it cannot be known."""
        if total is None or len(self._marks) < 2:
            return None
        (first, started), (done, now) = self._marks[0], self._marks[-1]
        return max(0.0, (total - done) * (now - started) / (done - first))


def clock_time(seconds: float | None) -> str:
    """Such as `0:05:44`, and `–` for what is not known."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
