"""How long a server that starts is waited for: as long as it gets on, up to a limit that grows with its model."""

import contextlib
import os
from pathlib import Path

LIMIT_SPANS = 4
"""The limit, in spans of `engine.server_start_s`, for a model of no size …"""
SLOWEST_LOAD = 50e6
"""… and bytes of weights a second that a server is given besides: a busy disk of a network gives as much."""
BUSY_S, BUSY_SHARE = 1.0, 0.01
"""CPU seconds, and share of the time, that tell a process at work from one that waits and looks around at times."""


def longest_start_s(still_s: float, weights_bytes: float) -> float:
    """Seconds after which a server that has not answered is given up, whatever it does."""
    return LIMIT_SPANS * still_s + weights_bytes / SLOWEST_LOAD


def weights_bytes(checkpoint: str) -> int:
    """Size of the files that a server loads; 0 for what is no folder of this machine."""
    return sum(file.stat().st_size for file in Path(checkpoint).glob("*.safetensors"))


class Start:
    """One start of a server, watched. Times are seconds of whatever clock `now` is of."""

    def __init__(self, still_s: float, weights: float, now: float):
        """It may be still for `still_s`: no line in its log, no work."""
        self._still_s, self._limit_s = still_s, longest_start_s(still_s, weights)
        self._weights, self._began = weights, now
        self._moved, self._said, self._cpu_s = now, 0, 0.0

    def given_up(self, now: float, said: int, cpu_s: float) -> str | None:
        """Why it is waited for no longer, None while it gets on. `said`: bytes of its log; `cpu_s`: seconds for which
        its processes have computed."""
        if said != self._said or cpu_s - self._cpu_s >= max(BUSY_S, BUSY_SHARE * (now - self._moved)):
            self._moved, self._said, self._cpu_s = now, said, cpu_s
        if now - self._began >= self._limit_s:
            return (
                f"it was at work and did not answer within {self._limit_s:.0f} s, which are {LIMIT_SPANS} × "
                f"engine.server_start_s and 1 s for each {SLOWEST_LOAD / 1e6:.0f} MB of its {self._weights / 1e9:.1f} "
                "GB of weights; raise engine.server_start_s if it needs longer"
            )
        if now - self._moved >= self._still_s:
            return (
                f"it said nothing and computed nothing for {self._still_s:g} s (engine.server_start_s), "
                f"{now - self._began:.0f} s after it was started"
            )
        return None


def group_cpu_s(group: int) -> float:
    """Seconds for which the processes of a group have computed so far, with those of their children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) == group:
                ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")
