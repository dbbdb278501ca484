"""Running assertions against a program, each in a sandbox of its own (`pipeline.sandbox.remote`)."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.sandbox.levels import Level
from pipeline.sandbox.probe import best_level
from pipeline.sandbox.process import Limits, Started


@dataclass(frozen=True)
class Checked:
    """What became of a program under its tests."""

    passed: bool
    """Whether every test passed."""
    message: str
    """The first failure; empty if there is none."""


def run_assertions(
    source: str,
    tests: Sequence[str],
    entry_point: str | None = None,
    limits: Limits | None = None,
    level: Level | None = None,
) -> Checked:
    """Run each test, a piece of Python with asserts, against the names that `source` defines.

    `entry_point` is the function under test; tests may also call it `candidate`. Wall clock and other limits hold for
    all tests together. Raises `SandboxError` if the sandbox fails, never for what the program does.
    """
    limits, level = limits or Limits(), level or best_level()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = {"source": source, "peer_fd": theirs.fileno()}
        judge = {"tests": list(tests), "entry_point": entry_point, "peer_fd": ours.fileno()}
        with (
            Started("solution", program, limits, level, pass_fds=(theirs.fileno(),)) as solution,
            Started("judge", judge, limits, level, pass_fds=(ours.fileno(),)) as judging,
        ):
            ours.close()
            theirs.close()
            solution.wait_ready()
            judging.wait_ready()
            said = judging.read_control(time.monotonic() + limits.wall_s).decode(errors="replace")
    if said == "passed":
        return Checked(True, "")
    return Checked(False, said.removeprefix("failed ") or f"no verdict within {limits.wall_s:g} s")
