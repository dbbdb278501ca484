"""Peak memory of this process since a given moment: resident, in bytes, as counted by the kernel.

Linux counts it anew when it is asked to (`forget_peak`). Other systems give that of the whole life of a process, so of
all stages of a run before the one at hand.
"""

import ctypes
import gc
import resource
import sys
from pathlib import Path

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_FORGET_THE_PEAK = "5"


def forget_peak() -> None:
    """From here on `peak` counts anew. Raises OSError where the kernel does not let a process do that."""
    _REFERENCES.write_text(_FORGET_THE_PEAK)


def peak() -> int:
    """The peak since `forget_peak`, or since the process began."""
    lines = _STATUS.read_text().splitlines() if _STATUS.is_file() else []
    told = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told[0] if told else held * (1 if sys.platform == "darwin" else 1024)


def release_memory() -> None:
    """Gives back to the system what a training has left behind, as far as that is possible.

    A trainer and its callbacks hold each other, so that its model, optimizer and reference live until the collector
    comes. And the C library keeps freed blocks of up to 32 MiB, which is most of what a forward pass makes: glibc is
    asked for them; others do as they do.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
