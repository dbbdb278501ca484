"""Processes of this machine, as /proc shows them."""

from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    group: int
    session: int


def alive() -> dict[int, Process]:
    """Every process by its id, without those that have ended and are only not yet waited for."""
    found = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group, session, *_ = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if state not in "ZX":
            found[int(status.parent.name)] = Process(int(group), int(session))
    return found
