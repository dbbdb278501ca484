"""How long a stage took over all attempts at it: an interrupted one counts, too."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ATTEMPTS = "attempts.jsonl"
"""Two lines an attempt: when it started, and how many seconds it took. A killed one leaves the first alone."""


class Attempts:
    """The attempts at one stage, written down in its partial folder."""

    def __init__(self, folder: Path):
        self._path = folder / ATTEMPTS
        self._seconds, killed = self._read()
        if killed is not None:  # it counts to the last sign of life that it left
            self._seconds.append(max(0.0, _last_written(folder) - killed))
            self._append({"seconds": self._seconds[-1]})

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
        self._append({"started": self._path.stat().st_mtime})  # by the clock of the other files' times
        begun = time.monotonic()
        try:
            yield
        finally:
            self._seconds.append(time.monotonic() - begun)
            self._append({"seconds": self._seconds[-1]})

    def _read(self) -> tuple[list[float], float | None]:
        """(seconds of each attempt that is over, when one that is not was started).

        What cannot be read is left out: times are no part of a result.
        """
        seconds: list[float] = []
        started = None
        try:
            for line in self._path.read_text(encoding="utf-8").splitlines():
                found = json.loads(line)
                if "started" in found:
                    started = float(found["started"])
                else:
                    seconds.append(float(found["seconds"]))
                    started = None
        except (OSError, ValueError, KeyError, TypeError):
            return seconds, None
        return seconds, started

    def _append(self, line: dict[str, float]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _last_written(folder: Path) -> float:
    return max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=0.0)
