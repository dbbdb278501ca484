"""The ladder's own command line, with every change to the file system counted and, if asked, one of them fatal.

    python -m benchmarks.chaos_child COUNTS.json - 0 - run all --profile smoke --run calm
    python -m benchmarks.chaos_child - r1_zero 12 before run all --profile smoke --run storm

The first writes how many changes each stage made. The second kills itself (SIGKILL) right before, or right after, the
12th change of the stage `r1_zero`. A change is a call of one of `CHANGES`; it belongs to the stage in whose folder the
last path was. Used by `benchmarks.chaos`.
"""

import functools
import json
import os
import re
import signal
import sys
from collections import Counter

CHANGES = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")
PARTIAL = re.compile(r"\.partial/([a-z0-9_]+)-[0-9a-f]+")


class Counted:
    """Wraps the functions of `os` that change the file system."""

    def __init__(self, stage: str, fatal: int, when: str):
        self.stage, self.fatal, self.when = stage, fatal, when
        self.counts: Counter[str] = Counter()
        self.current = ""
        for name in CHANGES:
            setattr(os, name, self._counting(getattr(os, name)))

    def _counting(self, function):
        @functools.wraps(function)
        def counting(*args, **kwargs):
            for argument in args:
                if isinstance(argument, str | os.PathLike) and (found := PARTIAL.search(os.fspath(argument))):
                    self.current = found[1]
            number = self.counts[self.current] + 1
            fatal = self.current == self.stage and number == self.fatal
            if fatal and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*args, **kwargs)
            self.counts[self.current] = number  # a call that raises has changed nothing
            if fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counting


def main(counts_path: str, stage: str, fatal: str, when: str, *arguments: str) -> int:
    counted = Counted(stage, int(fatal), when)
    from pipeline.cli import main as ladder

    code = ladder(list(arguments))
    if counts_path != "-":
        with open(counts_path, "w", encoding="utf-8") as file:
            json.dump(counted.counts, file)
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
