"""One process that climbs the ladder, as `benchmarks.chaos` watches it, kills it and looks for what it left behind."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass

from benchmarks.processes import alive
from pipeline.core.errors import RunError
from pipeline.ladder import LADDER, find_stage, needed_for

START_SECONDS = 6.0
"""Rough seconds that a fresh process spends on imports and on starting an engine inside the stage it goes on with."""
LONGEST_STAGE = 300.0
SIGNALS = [signal.SIGKILL] * 6 + [signal.SIGTERM] * 2 + [signal.SIGINT] * 2
ENDED_BY = {
    signal.SIGKILL: {-signal.SIGKILL},
    signal.SIGTERM: {-signal.SIGTERM},
    signal.SIGINT: {130, -signal.SIGINT},  # the second before the command line is read
}


@dataclass(frozen=True)
class Course:
    """What is climbed: a profile, up to a stage or to the end (`all`)."""

    profile: str
    target: str
    seed: int
    """Of the kills; the climbs have the profile's."""

    @property
    def stages(self) -> list[str]:
        return [stage.id for stage in (LADDER if self.target == "all" else needed_for(find_stage(self.target)))]


ORPHAN_SECONDS = 5.0


class Climb:
    """One process that climbs: what it said, and in which stage it is."""

    def __init__(self, module: list[str], run: str, course: Course):
        self.stages = course.stages
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *module, "run", course.target, "--profile", course.profile, "--run", run],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
        self.said: list[str] = []
        self.started: dict[str, float] = {}
        """Stage -> monotonic time at which it was begun."""
        self._begun = re.compile(rf"\b({'|'.join(self.stages)}): .*\((?:missing|partial|stale)")
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stderr:
            self.said.append(line)
            if found := self._begun.search(line):
                self.started[found[1]] = time.monotonic()

    @property
    def stage(self) -> str:
        return next(reversed(self.started), "start")

    def reached(self, stage: str) -> float | None:
        """When this stage, or the first one after it that had to be run, was begun; None while neither was."""
        later = self.stages[self.stages.index(stage) :]
        times = [begun for name, begun in list(self.started.items()) if name in later]
        return min(times, default=None)

    def end(self, wait: float = LONGEST_STAGE) -> int:
        try:
            code = self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise RunError(f"the climb does not end:\n{''.join(self.said[-20:])}") from None
        self._reader.join(5)
        return code

    def orphans(self) -> int:
        """Counts processes of its session that outlive it, and ends them."""
        until = time.monotonic() + ORPHAN_SECONDS
        while (left := self._session()) and time.monotonic() < until:
            time.sleep(0.05)
        for process in left:
            os.kill(process, signal.SIGKILL)
        return len(left)

    def _session(self) -> list[int]:
        return [pid for pid, process in alive().items() if process.session == self.process.pid]
