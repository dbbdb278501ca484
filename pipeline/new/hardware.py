"""What a profile is to run on: `cpu`, `24` (GB of one GPU), `8x80`, or the name of a GPU (`4xh100`)."""

import re
from dataclasses import dataclass

from pipeline.core.errors import ConfigError
from pipeline.models.accelerators import MEMORY_GIB
from pipeline.models.memory import device_bytes, devices

_WRITTEN = re.compile(r"^(?:(?P<count>\d{1,4})\s*[x×*]\s*)?(?P<gpu>[a-z0-9.]+?)\s*(?:gi?b)?$")
MOST_GIB = 1024


@dataclass(frozen=True)
class Hardware:
    gpus: int
    """How many; 0: the CPU."""
    gib: float = 0.0
    """Memory of each GPU."""

    def __str__(self) -> str:
        if not self.gpus:
            return "the CPU"
        return f"{self.gpus} GPU{'s' if self.gpus > 1 else ''} of {self.gib:g} GB"


def parse_hardware(text: str) -> Hardware:
    """Raises ConfigError for what names no hardware."""
    written = re.sub(r"(?<=[a-z])[- ](?=\d)", "", text.strip().lower())
    if written == "cpu":
        return Hardware(0)
    match = _WRITTEN.match(written)
    name = match["gpu"] if match else ""
    for known in (name, f"rtx{name}"):
        if known in MEMORY_GIB:
            return Hardware(_count(match["count"], text), MEMORY_GIB[known])
    try:
        gib = float(name)
    except ValueError:
        gib = 0.0
    if not 1 <= gib <= MOST_GIB:
        raise ConfigError(
            f"HARDWARE={text!r}: expected cpu, the memory of one GPU in GB (24), several of them (8x80), or names: "
            f"{', '.join(MEMORY_GIB)}, such as 4xh100."
        )
    return Hardware(_count(match["count"], text), gib)


def _count(written: str | None, text: str) -> int:
    count = int(written) if written else 1
    if count < 1:
        raise ConfigError(f"HARDWARE={text!r}: expected at least one GPU, or cpu.")
    return count


def hardware_here() -> Hardware:
    """This machine's GPUs, as nvidia-smi lists them; its CPU where there are none."""
    count = devices("cuda")
    return Hardware(count, round(device_bytes("cuda") / 2**30, 1)) if count else Hardware(0)
