"""How long a stage took over all attempts at it: an interrupted one counts, too."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import RunError
from pipeline.core.files import append_json_line, read_json_lines

ATTEMPTS = "attempts.jsonl"
"""Two lines an attempt: when it started, and how many seconds it took. A killed one leaves the first alone."""


class Attempts:
    """The attempts at one stage, written down in its partial folder."""

    def __init__(self, folder: Path):
        self._path = folder / ATTEMPTS
        self._seconds, killed = self._read()
        if killed is not None:  # it counts to the last sign of life that it left
            self._seconds.append(max(0.0, _last_written(folder) - killed))
            append_json_line(self._path, {"seconds": self._seconds[-1]})

    @property
    def count(self) -> int:
        return len(self._seconds)

    @property
    def seconds(self) -> float:
        """Of all attempts that are over."""
        return sum(self._seconds)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        self._path.touch()
        append_json_line(self._path, {"started": self._path.stat().st_mtime})  # by the clock of the other files' times
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds.append(time.monotonic() - begun)
            append_json_line(self._path, {"seconds": self._seconds[-1]})

    def _read(self) -> tuple[list[float], float | None]:
        """(seconds of each attempt that is over, when one that is not was started).

        What cannot be read is left out: times are no part of a result.
        """
        seconds: list[float] = []
        started = None
        try:
            for _, found in read_json_lines(self._path):
                if "started" in found:
                    started = float(found["started"])
                else:
                    seconds.append(float(found["seconds"]))
                    started = None
        except (RunError, ValueError, KeyError, TypeError):
            return seconds, None
        return seconds, started


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)
