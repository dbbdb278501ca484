"""Advantages of a rollout's completions: how much better each did than the others of its group."""

from dataclasses import dataclass
from typing import Literal

import torch

STD_FLOOR = 1e-4
"""Added to the standard deviation before dividing by it, as TRL does."""


@dataclass(slots=True)
class Advantages:
    advantages: torch.Tensor
    """(completions,)"""
    rewards: torch.Tensor
    """(completions,) weighted sum of the reward functions; NaN where none gave a value."""
    zero_spread: torch.Tensor
    """(groups,) whether all completions of the group got the same reward, so that none of them trains."""


def group_advantages(
    rewards: torch.Tensor, weights: torch.Tensor, group_size: int, scale: Literal["group", "batch", "none"]
) -> Advantages:
    """(reward − group mean) / standard deviation: DeepSeekMath, arXiv 2402.03300, eq. 3, outcome supervision.

    `rewards` is (completions, functions), groups in a row, NaN where a function does not apply. What does not apply
    counts nothing in the weighted sum. A completion to which no function applies is left out of its group's mean and
    deviation and gets advantage 0: it was not scored, which is not a low score. The deviation is the sample one
    (divided by n − 1), as in TRL, over the group, over the batch, or not applied.
    """
    total = (rewards * weights).nansum(dim=1)
    total[rewards.isnan().all(dim=1)] = torch.nan
    grouped = total.view(-1, group_size)
    deviation = _nanstd(grouped)
    if scale == "group":
        divisor = deviation.repeat_interleave(group_size) + STD_FLOOR
    elif scale == "batch":
        divisor = _nanstd(total[None]) + STD_FLOOR
    else:
        divisor = 1.0
    advantages = (grouped - grouped.nanmean(dim=1, keepdim=True)).flatten() / divisor
    flat = torch.isclose(deviation, torch.zeros_like(deviation)) | deviation.isnan()
    return Advantages(advantages.nan_to_num(nan=0.0), total, flat)


def _nanstd(values: torch.Tensor) -> torch.Tensor:
    """Sample standard deviation of each row without its NaNs; NaN where fewer than two values are left."""
    count = (~values.isnan()).sum(dim=1)
    squares = (values - values.nanmean(dim=1, keepdim=True)).square().nansum(dim=1)
    return (squares / (count - 1)).sqrt().masked_fill(count < 2, torch.nan)
