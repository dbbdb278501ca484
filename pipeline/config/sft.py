"""Settings of supervised fine-tuning."""

from typing import ClassVar

from pydantic import Field, model_validator

from pipeline.config.experts import BalanceSettings, check_trains_whole
from pipeline.config.lora import LoRASettings, TakesAdapters

MAX_TOKENS = 32_768
"""The length limit of the paper, for sampling, SFT and evaluation alike."""


def check_batch(batch_size: int, most: int, key: str) -> None:
    """Raises ValueError unless a batch is a whole number of forward passes of `most` rows, or fits in one."""
    if batch_size % min(batch_size, most):
        raise ValueError(
            f"batch_size {batch_size} is not a multiple of {key} {most}: change one, so that a batch is a whole number "
            "of forward passes"
        )


class SFTSettings(TakesAdapters):
    LATER: ClassVar[frozenset[str]] = frozenset({"balance", "fp8", "mtp_weight"})

    epochs: int = Field(2, ge=1)  # paper: 2-3
    learning_rate: float = Field(5e-5, gt=0)  # paper: cosine 5e-5 -> 5e-6
    final_learning_rate_share: float = Field(0.1, ge=0, le=1)  # paper: to a tenth
    warmup_steps: int = Field(0, ge=0)
    batch_size: int = Field(128, ge=1)  # paper: 128
    rows_per_device: int = Field(8, ge=1)
    """Rows in one forward pass, at most; the rest of the batch comes by accumulation and from other processes."""
    max_tokens: int = Field(MAX_TOKENS, ge=1)
    """Rows longer than this, prompt and answer together, are dropped and counted."""
    weight_decay: float = 0.0
    checkpoint_every: int = Field(200, ge=1)
    keep_checkpoints: int = Field(2, ge=1)
    balance: BalanceSettings = BalanceSettings()
    """Of a mixture of experts: how its load is kept even."""
    mtp_weight: float = Field(0.0, ge=0, le=1)
    """Weight of the loss of the token after the next, which trains the model's multi-token prediction module (paper of
    DeepSeek-V3: 0.3, later 0.1). 0: the module stays as it is."""
    lora: LoRASettings | None = None
    """Adapters instead of all weights; null trains all."""
    fp8: bool = False
    """Matrix products of the decoder layers on operands in block-wise FP8, emulated (docs/deepseek-v3.md)."""

    @model_validator(mode="after")
    def _batch_divides(self) -> "SFTSettings":
        check_batch(self.batch_size, self.rows_per_device, "rows_per_device")
        if self.fp8 and self.lora:
            raise ValueError("fp8 is for training all weights, and lora trains adapters; set fp8: false, or lora: null")
        check_trains_whole(self.balance, self.mtp_weight, self.lora)
        return self
