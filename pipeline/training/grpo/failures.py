"""Rewards that fail in one of several processes: all of them end the step alike.

TRL gathers rewards over processes right after it has asked for them: one that left there would have the others wait for
it. So with several processes a reward keeps its failure (`RunReward.keeps_failure`) until all have scored.
"""

from collections.abc import Sequence

from accelerate import PartialState
from accelerate.utils import gather_object

from rewards import RewardError
from rewards.reward_set import RunReward


def raise_failures(rewards: Sequence[RunReward]) -> None:
    """Raises RewardError in every process, with what was said in each that has one, where any has."""
    if PartialState().num_processes == 1:
        return
    said = [str(reward.failure) for reward in rewards if reward.failure]
    rank = PartialState().process_index
    everywhere = gather_object([f"process {rank}: {each}" if rank else each for each in said])
    if everywhere:
        raise RewardError("; ".join(everywhere))
