"""Settings of what DeepSeek-V3 has and others have not: experts whose load is kept even, multi-token prediction."""

from typing import ClassVar

from pydantic import Field

from pipeline.config.lora import LoRASettings
from pipeline.core.strict import Strict


class BalanceSettings(Strict):
    """Balance without an auxiliary loss (DeepSeek-V3, arXiv 2412.19437, section 2.1.2): each expert has a bias that
    counts when experts are chosen and not in their weights. After each optimizer step it rises where the expert had
    fewer tokens than the mean of its layer, and falls where it had more."""

    LATER: ClassVar[frozenset[str]] = frozenset({"sequence_weight"})

    bias_rate: float = Field(0.0, ge=0, lt=1)
    """What a bias changes by in a step (paper: 0.001 over 14.3 trillion tokens, then 0). 0: biases stay what they are.
    """
    sequence_weight: float = Field(0.0, ge=0, lt=1)
    """Weight of the loss that keeps each single sequence from one-sided routing (equations 17 to 20; paper: 0.0001).
    """


MTP_WEIGHT = 0.3
"""Of the loss of multi-token prediction in pretraining (arXiv 2412.19437, section 4.2): for the first 10 trillion
tokens, then 0.1."""

NOT_BALANCED = BalanceSettings()


def check_trains_whole(balance: BalanceSettings, mtp_weight: float, lora: LoRASettings | None) -> None:
    """Raises ValueError for biases that would move, or a multi-token prediction module that would train, beside
    adapters: these are saved and handed over without them."""
    changed = {
        "balance.bias_rate": (balance.bias_rate, "routers' biases"),
        "mtp_weight": (mtp_weight, "multi-token prediction module"),
    }
    for key, (value, part) in changed.items():
        if value and lora:
            raise ValueError(
                f"{key} is {value:g}, but lora trains adapters of a base that stays as it is, its {part} too; set "
                f"{key}: 0, or lora: null"
            )
