"""Peak memory of this process since a given moment: resident, in bytes, as counted by the kernel.

`getrusage` gives that of the whole life of a process, so of all stages of a run before the one at hand.
"""

from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_THE_PEAK = "5"


def forget_peak() -> None:
    """From here on `peak` counts anew. Raises OSError where the kernel does not let a process do that."""
    _REFERENCES.write_text(_FORGET_THE_PEAK)


def peak() -> int:
    """The peak since `forget_peak`, or since the process began."""
    [line] = [line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
