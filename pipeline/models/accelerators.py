"""GPUs by their makers' data sheets, and how much of what these promise training and decoding reach.

Rates are assumptions that `make plan` prints; those of a run that was made take their place.
"""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class Accelerator:
    """One GPU. Rates are a second's."""

    name: str
    gib: float
    """Memory."""
    flops: float
    """Operations of dense bfloat16 matrix products."""
    bandwidth: float
    """Bytes from its memory."""
    link: float
    """Bytes to another GPU of its machine, one direction."""
    network: float
    """Bytes to another machine, one direction: a 400 Gbit/s adapter a GPU where machines are sold with one."""
    per_machine: int = 8

    @property
    def size(self) -> float:
        """Bytes of memory."""
        return self.gib * GIB

    def wire(self, among: int) -> float:
        """Bytes a second that a GPU exchanges with the others of `among`."""
        return self.link if among <= self.per_machine else self.network


MEMORY_GIB = {
    "t4": 16, "v100": 32, "rtx3090": 24, "rtx4090": 24, "rtx5090": 32, "a10": 24, "a10g": 24, "l4": 24, "l40s": 48,
    "a6000": 48, "a100": 80, "h100": 80, "h800": 80, "h200": 141, "b200": 180,
}  # fmt: skip
"""Memory of a GPU by its name, in GiB, as its maker states it. The A100 also comes with 40."""
ACCELERATORS = {
    name: Accelerator(name, MEMORY_GIB[name], *rates)
    for name, rates in {
        "b200": (2250e12, 8.0e12, 900e9, 50e9),
        "h200": (989e12, 4.8e12, 450e9, 50e9),
        "h100": (989e12, 3.35e12, 450e9, 50e9),
        "h800": (989e12, 3.35e12, 200e9, 50e9),
        "a100": (312e12, 2.0e12, 300e9, 25e9),
        "l40s": (362e12, 0.86e12, 32e9, 12.5e9),
        "a10g": (70e12, 0.6e12, 16e9, 6e9),
        "rtx4090": (165e12, 1.0e12, 16e9, 3e9),
    }.items()
}
"""GPUs whose rates are known, too: those that `make plan` plans for."""


@dataclass(frozen=True)
class Rates:
    """Shares of the makers' figures that are reached, and what is fixed."""

    update_use: float = 0.35
    """Of the peak, by useful operations of an update (MFU)."""
    memory_use: float = 0.6
    """Of the memory's bandwidth, by decoding."""
    decode_use: float = 0.25
    """Of the peak, by decoding's matrix products."""
    decode_floor_s: float = 0.012
    """Seconds of a decoding step however few sequences it has: launches, sampling, scheduling."""
    meeting_s: float = 15e-6
    """Seconds in which the GPUs of one server add up what each has computed: twice a layer."""
    wire_use: float = 0.6
    """Of links and network."""
    folder_rate: float = 2e9
    """Bytes a second of a shared folder, for weights that reach servers through it."""
    room: float = 0.92
    """Share of a GPU's memory that may be planned with."""
    mean_length: float = 0.25
    """Mean completion as a share of the longest that a stage allows, where no run has told it."""
    prompt_tokens: int = 200
    """A prompt's length, likewise."""


RATES = Rates()
