"""The table that an RL stage prints while it runs: plain lines, readable over ssh and in a log file.

step         reward  accuracy  format  length  tokens/s   r/s/u %  MFU      left
20/80         1.031     0.212   0.820    14.2     8,512   51/1/46  58%   0:02:31

Every reward of the stage has a column, under its own name. `r/s/u` is the share of the step's time in rollout, scoring
and update; MFU the update's share of the machine's own matrix product peak. Where columns are too many for the terminal
those of `LEFT_OUT` go first, then a row takes several lines: what is left out stands in `metrics.jsonl`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipeline.core.pace import Pace, clock_time

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
ALWAYS_FIRST = ("step", "reward", "accuracy", "format")
LEFT_OUT = ("MFU", "r/s/u %", "tokens/s", "length")
"""In this order."""
ROWS_A_HEADING = 20
WIDTH = 80
NARROWEST = 40


class StepTable:
    """Passes rows to `say`: the first step, then at most one row in `every_seconds`, and the last of `total`."""

    def __init__(
        self,
        total: int,
        say: Callable[[str], None],
        every_seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        width: int = WIDTH,
        pace: Pace | None = None,
    ):
        """`width` is the terminal's. `pace` is shared with another display that already receives these steps."""
        self._total, self._say, self._every, self._clock = total, say, every_seconds, clock
        self._width, self._own_pace = max(NARROWEST, width), pace is None
        self._pace = pace or Pace(clock)
        self._rows = 0
        self._said: float | None = None
        self._lines: list[list[_Column]] = []

    def step(self, figures: dict[str, Any]) -> None:
        """`figures` is a line of `metrics.jsonl`."""
        step, now = figures["step"], self._clock()
        if self._own_pace:
            self._pace.reached(step)
        if self._said is not None and now - self._said < self._every and step < self._total:
            return
        self._said = now
        if self._rows % ROWS_A_HEADING == 0:
            self._lines = laid_out(list(figures["rewards"]), self._width)
            for line in self._lines:
                self._say(_written(line, None))
        self._rows += 1
        shown = self._shown(figures)
        for line in self._lines:
            self._say(_written(line, shown))

    def _shown(self, figures: dict[str, Any]) -> dict[str, str]:
        """Key of a column -> what stands in it."""
        tokens, seconds = figures["rollout_tokens"], figures["seconds_step"]
        shares = (figures[f"share_{phase}"] for phase in ("rollout", "scoring", "update"))
        return {
            **{_key(name): _number(score, 3) for name, score in figures["rewards"].items()},
            "step": f"{figures['step']}/{self._total}",
            "reward": _number(figures["reward"], 3),
            "length": _number(figures["completion_tokens"], 1),
            "tokens/s": f"{tokens / seconds:,.0f}" if seconds and tokens else "–",
            "r/s/u %": "/".join(f"{100 * share:.0f}" for share in shares),
            "MFU": f"{figures['update_flop_utilisation']:.0%}",
            "left": clock_time(self._pace.seconds_left(self._total)),
        }


@dataclass(frozen=True)
class _Column:
    key: str
    heading: str
    width: int


def laid_out(rewards: Sequence[str], width: int) -> list[list[_Column]]:
    """The columns of each line of a row, for a stage with these rewards."""
    widths = dict(COLUMNS)
    scores = [_Column(_key(name), name, max(8, len(name) + 2)) for name in rewards]
    others = [_Column(name, name, widths[name]) for name in widths if name not in ALWAYS_FIRST]
    step, total = (_Column(name, name, widths[name]) for name in ("step", "reward"))
    columns = [total, *scores, *others]
    for name in LEFT_OUT:
        if step.width + sum(column.width for column in columns) > width:
            columns = [column for column in columns if column.key != name]
    lines = [[step]]
    for column in columns:
        column = replace(column, width=min(column.width, width - step.width))
        if sum(taken.width for taken in lines[-1]) + column.width > width:
            lines.append([_Column("", "", step.width)])
        lines[-1].append(column)
    return lines


def _key(reward: str) -> str:
    """A reward may be called like another column."""
    return f"rewards/{reward}"


def _written(line: list[_Column], shown: dict[str, str] | None) -> str:
    """A line of a row, or of the heading: the first column from the left, the others from the right."""
    first, *rest = line
    cells = [_cut(each.heading, each.width - 2) if shown is None else shown.get(each.key, "") for each in line]
    right = (f"{cell:>{column.width}}" for cell, column in zip(cells[1:], rest, strict=True))
    return f"{cells[0]:<{first.width}}" + "".join(right)


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 1] + "…"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
