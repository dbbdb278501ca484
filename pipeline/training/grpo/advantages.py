"""Advantages of a rollout's completions: how much better each did than the others of its group."""

from dataclasses import dataclass
from typing import Literal

import torch

STD_FLOOR = 1e-4
"""Added to the standard deviation before dividing by it, as TRL does."""
ROUNDINGS = 2
"""Half units of the last place that a weight, a score and their product may be off by."""


@dataclass(slots=True)
class Advantages:
    advantages: torch.Tensor
    """(completions,)"""
    rewards: torch.Tensor
    """(completions,) weighted sum of the reward functions, a missing one counted as its mean over the group; NaN where
    none gave a value."""
    zero_spread: torch.Tensor
    """(groups,) whether all completions of the group got the same reward, so that none of them trains."""


def group_advantages(
    rewards: torch.Tensor, weights: torch.Tensor, group_size: int, scale: Literal["group", "batch", "none"]
) -> Advantages:
    """(reward − group mean) / standard deviation: DeepSeekMath, arXiv 2402.03300, eq. 3, outcome supervision.

    `rewards` is (completions, functions), groups in a row, NaN where a function does not apply. Not scored is not a low
    score: a completion is compared, function by function, with the members of its group that the function scored, so
    one without a score is neither better nor worse by that function. (It counts as the mean of those members; a
    function that scored none of the group counts nothing in it.) A completion to which no function applies is left out
    of its group's mean and deviation and gets advantage 0. Where every completion has every score this is TRL's
    advantage. The deviation is the sample one (divided by n − 1), as in TRL, over the group, over the batch, or not
    applied. Groups of equal rewards get exactly 0, which their rounded mean would not always give.
    """
    total = (_filled(rewards, group_size) * weights).nansum(dim=1)
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
    flat = torch.isclose(deviation, torch.zeros_like(deviation)) | deviation.isnan() | _equal(grouped, rewards, weights)
    advantages = advantages.nan_to_num(nan=0.0).masked_fill(flat.repeat_interleave(group_size), 0.0)
    return Advantages(advantages, total, flat)


def most_varied(rewards: torch.Tensor, group_size: int, count: int) -> list[int]:
    """The `count` groups of the largest reward variance, of equal ones the first, in the order of the rollout.

    `rewards` is (completions,), groups in a row; completions without a reward (NaN) do not count, and a group with
    fewer than two rewards has no variance.
    """
    variance = _nanstd(rewards.view(-1, group_size)).nan_to_num(nan=0.0).square()
    return sorted(torch.argsort(variance, descending=True, stable=True)[:count].tolist())


def _filled(rewards: torch.Tensor, group_size: int) -> torch.Tensor:
    """`rewards` with each missing score replaced by the function's mean over the group, NaN where it has none."""
    grouped = rewards.view(-1, group_size, rewards.shape[1])
    return torch.where(grouped.isnan(), grouped.nanmean(dim=1, keepdim=True), grouped).view_as(rewards)


def _equal(grouped: torch.Tensor, rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(groups,) whether the group's sums differ by no more than rounding: 0.1 + 0.2 and 0.3 are one reward."""
    spread = grouped.nan_to_num(nan=-torch.inf).amax(dim=1) - grouped.nan_to_num(nan=torch.inf).amin(dim=1)
    size = (rewards * weights).abs().nansum(dim=1).view_as(grouped).amax(dim=1)
    return spread <= ROUNDINGS * torch.finfo(rewards.dtype).eps * size


def _nanstd(values: torch.Tensor) -> torch.Tensor:
    """Sample standard deviation of each row without its NaNs; NaN where fewer than two values are left."""
    count = (~values.isnan()).sum(dim=1)
    squares = (values - values.nanmean(dim=1, keepdim=True)).square().nansum(dim=1)
    return (squares / (count - 1)).sqrt().masked_fill(count < 2, torch.nan)
