"""Settings of reward-model training."""

from typing import ClassVar

from pydantic import Field, model_validator

from pipeline.config.lora import LoRASettings, TakesAdapters
from pipeline.config.sft import check_batch


class RewardTraining(TakesAdapters):
    """How a scorer is trained: a part of the stage's section."""

    ADAPTERS: ClassVar = {"quantize": "none"}

    epochs: int = Field(1, ge=1)  # paper: 1
    learning_rate: float = Field(6e-6, gt=0)  # paper: 6e-6
    batch_size: int = Field(256, ge=1)  # paper: 256
    """Pairs an optimizer step."""
    pairs_per_device: int = Field(8, ge=1)
    """Pairs in one forward pass, at most; the rest of the batch comes by accumulation."""
    max_tokens: int = Field(8192, ge=1)
    """Pairs with a text longer than this are left out."""
    lora: LoRASettings | None = None
    """Adapters and the head that gives the score instead of all weights; null trains all."""

    @model_validator(mode="after")
    def _batch_divides(self) -> "RewardTraining":
        check_batch(self.batch_size, self.pairs_per_device, "pairs_per_device")
        if self.lora and self.lora.quantize != "none":
            raise ValueError(f"lora.quantize is {self.lora.quantize}, and scorers are trained on a base that is not "
                             "quantised; set quantize: none")  # fmt: skip
        return self
