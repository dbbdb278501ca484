"""How the processes of a run share the models that they train."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from pipeline.config.lora import LoRASettings
from pipeline.core.strict import Strict


class ParallelSettings(Strict):
    """Belongs to the machine, not to the result: a run begun on some processes goes on with others."""

    shard: Literal["none", "fsdp2"] = "none"
    """`none`: each process holds the whole model and its optimizer (torch's DDP). `fsdp2`: each holds its share of
    weights, gradients and optimizer, and a layer is gathered while it is computed. One process has nothing to share."""
    copies: int = Field(1, gt=0)
    """Whole copies of the model (`fsdp2`): each is in shards over processes / copies, so that layers are gathered among
    fewer. 1: one, over all processes."""
    offload: bool = False
    """Keep shards of weights, gradients and optimizer in the host's memory (`fsdp2`): slower, and little on a GPU."""
    gather: Literal["bfloat16", "float32"] = "bfloat16"
    """What trained weights of a bfloat16 profile are gathered and computed as (`fsdp2`). `float32` sends twice the
    bytes, and gives what one process gives: autocast then picks what is computed in bfloat16."""

    def shards(self, processes: int) -> int:
        """In how many parts each model is: 1 where every process holds it whole."""
        return 1 if self.shard == "none" else max(1, processes // self.copies)

    def splits(self, processes: int) -> bool:
        """Whether models are in shards, if only in one part a copy."""
        return self.shard != "none" and processes > 1

    def faults(self, processes: int, adapters: Mapping[str, LoRASettings | None]) -> list[str]:
        """What so many processes cannot do, each with how to mend it; `adapters` by the key of what they train."""
        if not self.splits(processes):
            return []
        found = []
        if processes % self.copies or processes == self.copies:
            found.append(
                f"parallel.copies is {self.copies}, which {processes} processes cannot hold in shards of equal size. "
                f"Set a divisor of {processes} below {processes}, or 1; `shard: none` gives each process a whole copy"
            )
        for key, lora in adapters.items():
            if lora is not None and lora.quantize != "none":
                found.append(
                    f"{key}.lora.quantize is {lora.quantize}, and parallel.shard {self.shard} does not split weights "
                    "of 4 bits. Set quantize: none, since shards make the base smaller too, or set shard: none"
                )
        return found


NOT_SHARED = ParallelSettings()
"""Every process holds the whole of each model."""
