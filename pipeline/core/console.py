"""What people see while it runs: log lines, progress bars with the time left, and tables.

On a terminal bars redraw in place. In a file or over a pipe they become a plain line now and then.
"""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pipeline.core.ranks import process_rank
from pipeline.core.redaction import redact

LOGGER = "ladder"
PLAIN_LINE_SECONDS = 15.0

PLAIN_WIDTH = 200
"""Columns of a log that is no terminal."""

console = Console(stderr=True, width=None if sys.stderr.isatty() else PLAIN_WIDTH)


class Redacted(logging.Formatter):
    """Blots out keys and tokens, in what is said and in the traces of exceptions."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def set_up_logging() -> logging.Logger:
    """The ladder's logger, on the terminal. Progress bars of the libraries are switched off: ours are shown.

    Of several processes the first one says how it goes; the others warn.
    """
    os.environ.setdefault("TQDM_DISABLE", "1")
    logger = logging.getLogger(LOGGER)
    if not logger.handlers:
        handler = RichHandler(console=console, show_path=False, omit_repeated_times=False, markup=False)
        rank = process_rank()
        handler.setFormatter(Redacted(f"process {rank}: %(message)s" if rank else "%(message)s"))
        logger.addHandler(handler)
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
        self.started = self.said = time.monotonic()
        self.first = None
        self.bar = None
        if console.is_terminal and process_rank() == 0:
            self.bar = RichProgress(
                TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn(), TimeElapsedColumn(),
                TimeRemainingColumn(), TextColumn("{task.fields[figures]}"), console=console, transient=True,
            )  # fmt: skip
            self.task = self.bar.add_task(description, total=total, figures="")

    def __enter__(self) -> "Progress":
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self.bar:
            self.bar.stop()

    def update(self, done: int, **figures: float | str) -> None:
        shown = "  ".join(f"{k} {v if isinstance(v, str) else format(v, '.3g')}" for k, v in figures.items())
        if self.bar:
            self.bar.update(self.task, completed=done, figures=shown)
            return
        now = time.monotonic()
        if self.first is None:
            self.first = (done, now)
        if not self.quiet and now - self.said >= PLAIN_LINE_SECONDS:
            self.said = now
            self.logger.info("%s: %s  %s%s", self.description, self._counted(done), shown, self._left(done, now))

    def _counted(self, done: int) -> str:
        return f"{done}" if self.total is None else f"{done}/{self.total}"

    def _left(self, done: int, now: float) -> str:
        first_done, first_time = self.first
        if not self.total or done <= first_done:
            return ""
        seconds = (self.total - done) * (now - first_time) / (done - first_done)
        return f"  about {time.strftime('%H:%M:%S', time.gmtime(seconds))} left"
