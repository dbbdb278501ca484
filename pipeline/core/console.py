"""What people see while it runs: log lines, and progress bars with the time left.

A terminal shows what is said, folded at words, and a bar that redraws in place. A file or a pipe gets whole lines with
time and level, and now and then one that says how far it is.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as RichProgress
from rich.text import Text

from pipeline.core.pace import Pace, clock_time
from pipeline.core.ranks import process_rank
from pipeline.core.redaction import redact
from pipeline.core.tables import MOST_COLUMNS

LOGGER = "ladder"
PLAIN_LINE_SECONDS = 15.0
STYLES = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "red"}
NARROW = 78
"""Columns of a terminal below which figures beside a bar are left out."""
BAR, COUNT_AND_LEFT, FIGURES = 10, 26, 16
"""Columns of a bar, and of what stands beside it."""

console = Console(stderr=True)


def shown_columns() -> int:
    """How wide a line may be: a terminal's width; a file has room."""
    return console.width if console.is_terminal else MOST_COLUMNS


class Redacted(logging.Formatter):
    """Masks keys and tokens in messages and in the traces of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class Shown(logging.Handler):
    """On a terminal what is said, without time and level: warnings and errors begin with the word. Else whole lines,
    as a log has them."""

    def __init__(self, says: str):
        super().__init__()
        self._plain = Redacted(f"%(asctime)s %(levelname)s {says}", "%H:%M:%S")
        self.setFormatter(Redacted(says))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if not console.is_terminal:
                sys.stderr.write(self._plain.format(record) + "\n")
                sys.stderr.flush()
                return
            level = record.levelname
            word = f"{level.lower()}: " if level in STYLES else ""
            console.print(Text(word + self.format(record), STYLES.get(level, "")), highlight=False)
        except Exception:
            self.handleError(record)


def set_up_logging() -> logging.Logger:
    """The ladder's logger, on the terminal. Progress bars of the libraries are switched off: ours are shown.

    Of several processes the first one says how it goes; the others warn.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        rank = process_rank()
        logger.addHandler(Shown(f"process {rank}: %(message)s" if rank else "%(message)s"))
        logger.setLevel(logging.WARNING if rank else logging.INFO)
        logger.propagate = False
    return logger


@contextmanager
def logged_to(path: Path) -> Iterator[logging.Logger]:
    """Everything that is logged meanwhile, by us or by the libraries at warning level, also goes to a file."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.handleError = lambda record: None  # a full disk stops the stage by what it fails to write, not by its log
    handler.setFormatter(Redacted("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger, root = logging.getLogger(LOGGER), logging.getLogger()
    logger.addHandler(handler)
    root.addHandler(handler)
    try:
        yield logger
    finally:
        logger.removeHandler(handler)
        root.removeHandler(handler)
        handler.close()


class Progress:
    """One bar. `update(done, **figures)` sets how much is done and the figures shown beside it."""

    def __init__(self, description: str, total: int | None, logger: logging.Logger, quiet: bool = False):
        """`quiet` leaves out the plain lines, where something else says how far it is. Of several processes the first
        one's progress is shown."""
        quiet = quiet or process_rank() > 0
        self.description, self.total, self.logger, self.quiet = description, total, logger, quiet
        self.pace = Pace()
        self.started = self.said = time.monotonic()
        self.bar = None
        if console.is_terminal and process_rank() == 0:
            self.bar = RichProgress(*bar_columns(console.width), console=console, transient=True)
            shown = shortened(description, console.width)
            self.task = self.bar.add_task(shown, total=total, counted=self._counted(0), left="", figures="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, **figures: float | str) -> None:
        self.pace.reached(done)
        shown = "  ".join(f"{k} {v if isinstance(v, str) else format(v, '.3g')}" for k, v in figures.items())
        left = "" if self.left is None else f"{clock_time(self.left)} left"
        if self.bar:
            self.bar.update(
                self.task, completed=done, total=self.total, counted=self._counted(done), left=left, figures=shown
            )
            return
        now = time.monotonic()
        if not self.quiet and now - self.said >= PLAIN_LINE_SECONDS:
            self.said = now
            parts = filter(None, (f"{self.description}: {self._counted(done)}", shown, left))
            self.logger.info("%s", "  ".join(parts))

    @property
    def left(self) -> float | None:
        """Seconds, None while they cannot be known."""
        return self.pace.seconds_left(self.total)

    def _counted(self, done: int) -> str:
        return f"{done}" if self.total is None else f"{done}/{self.total}"


def bar_columns(width: int) -> list[TextColumn | BarColumn]:
    """Description, bar, count and time left; figures where the terminal is wide enough for them."""
    texts = ["{task.fields[counted]}", "{task.fields[left]}"] + ["{task.fields[figures]}"] * (width >= NARROW)
    return [TextColumn("{task.description}"), BarColumn(bar_width=BAR), *map(TextColumn, texts)]


def shortened(description: str, width: int) -> str:
    """A bar's description in the room that the rest leaves to it."""
    room = max(8, width - BAR - COUNT_AND_LEFT - (FIGURES if width >= NARROW else 0))
    return description if len(description) <= room else description[: room - 1] + "…"
