"""Memory of a training process on a CPU: what is freed stays with the process, for the next tensor of that size.

glibc gives large blocks back to the system as soon as they are freed and asks for them again, and the system fills
every page with zeros first. Activations and gradients come and go each micro-batch, so that this took longer than
computing with them (`docs/log.md`). The price: a process holds its peak until it ends.
"""

import ctypes

# mallopt(3): parameters of glibc's malloc.h.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
GROW_BYTES = 64 << 20


def keep_freed_memory() -> bool:
    """Whether the C library took the settings: glibc does, others have no `mallopt` and go on as they are."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(
        mallopt(parameter, value) == 1
        for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, GROW_BYTES))
    )
