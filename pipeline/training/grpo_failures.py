"""Rewards that fail in one of several processes: all of them end the step alike."""

import inspect
from collections.abc import Callable, Sequence

from accelerate import PartialState
from accelerate.utils import gather_object

from rewards import RewardError


class Held:
    """A reward whose failure is kept until all processes have scored.

    TRL gathers rewards over processes right after it has asked for them: one that left there would have the others wait
    for it. Everything but the call is the reward's own.
    """

    def __init__(self, reward: Callable):
        self._reward = reward
        self.failure: RewardError | None = None

    def __getattr__(self, name: str):
        return getattr(self._reward, name)

    def __call__(self, *arguments, completions: Sequence, **columns) -> list[float | None]:
        try:
            return self._reward(*arguments, completions=completions, **columns)
        except RewardError as error:
            self.failure = error
            return [None] * len(completions)


def held(rewards: Sequence[Callable]) -> list[Callable]:
    """The rewards as they are where a process is alone; coroutines are left as they are."""
    if PartialState().num_processes == 1:
        return list(rewards)
    return [reward if inspect.iscoroutinefunction(reward) else Held(reward) for reward in rewards]


def raise_failures(rewards: Sequence[Callable]) -> None:
    """Raises RewardError in every process, with what was said in each that has one, where any has."""
    if PartialState().num_processes == 1:
        return
    said = [str(reward.failure) for reward in rewards if isinstance(reward, Held) and reward.failure]
    rank = PartialState().process_index
    everywhere = gather_object([f"process {rank}: {each}" if rank else each for each in said])
    if everywhere:
        raise RewardError("; ".join(everywhere))
