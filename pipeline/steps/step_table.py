"""The table that grows while an RL stage runs: plain lines, as readable over ssh as in a log file later.

step         reward  accuracy  format  length  tokens/s   r/s/u %  MFU      left
20/80         1.031     0.212   0.820    14.2     8,512   51/1/46  58%   0:02:31

`r/s/u` is the share of the step's time in rollout, scoring and update; MFU the update's share of the machine's own
matrix product peak.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

COLUMNS = (
    ("step", 11),
    ("reward", 8),
    ("accuracy", 10),
    ("format", 8),
    ("length", 8),
    ("tokens/s", 10),
    ("r/s/u %", 10),
    ("MFU", 5),
    ("left", 10),
)
ROWS_A_HEADING = 20


class StepTable:
    """Says a row through `say` at the first step, then at most one in `every_seconds`, and at the last of `total`."""

    def __init__(
        self,
        total: int,
        say: Callable[[str], None],
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._say, self._every, self._clock = total, say, every_seconds, clock
        self._rows = 0
        self._first: tuple[int, float] | None = None
        self._said = 0.0

    def step(self, figures: dict[str, Any]) -> None:
        """`figures` is a line of `metrics.jsonl`."""
        step, now = figures["step"], self._clock()
        if self._first is None:
            self._first = (step, now)
        elif now - self._said < self._every and step < self._total:
            return
        self._said = now
        if self._rows % ROWS_A_HEADING == 0:
            self._say(_line([name for name, _ in COLUMNS]))
        self._rows += 1
        rewards = figures["rewards"]
        seconds = figures["seconds_step"]
        self._say(
            _line(
                [
                    f"{step}/{self._total}",
                    _number(figures["reward"], 3),
                    _number(rewards.get("accuracy"), 3),
                    _number(rewards.get("format"), 3),
                    _number(figures["completion_tokens"], 1),
                    f"{figures['rollout_tokens'] / seconds:,.0f}" if seconds and figures["rollout_tokens"] else "–",
                    "/".join(f"{100 * figures[f'share_{phase}']:.0f}" for phase in ("rollout", "scoring", "update")),
                    f"{figures['update_flop_utilisation']:.0%}",
                    self._left(step, now),
                ]
            )
        )

    def _left(self, step: int, now: float) -> str:
        """By the pace since the first step that was seen, so that a resumed run counts from where it resumed."""
        first_step, started = self._first
        if step == first_step:
            return "–"
        return str(timedelta(seconds=round((self._total - step) * (now - started) / (step - first_step))))


def _line(cells: list[str]) -> str:
    """The first column from the left, the others from the right."""
    (_, width), *others = COLUMNS
    first, *rest = cells
    return f"{first:<{width}}" + "".join(f"{cell:>{width}}" for cell, (_, width) in zip(rest, others, strict=True))


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
