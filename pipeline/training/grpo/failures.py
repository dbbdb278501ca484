"""Rewards that fail in one of several processes: all of them end the step alike."""

import functools
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


def held_coroutine(reward: Callable) -> Callable:
    """What `Held` is, for a coroutine function: TRL tells them by what they are."""

    @functools.wraps(reward)
    async def call(*arguments, completions: Sequence, **columns) -> list[float | None]:
        try:
            return await reward(*arguments, completions=completions, **columns)
        except RewardError as error:
            call.failure = error
            return [None] * len(completions)

    call.failure = None
    return call


def held(rewards: Sequence[Callable]) -> list[Callable]:
    """The rewards, held where a process is not alone."""
    if PartialState().num_processes == 1:
        return list(rewards)
    return [held_coroutine(reward) if inspect.iscoroutinefunction(reward) else Held(reward) for reward in rewards]


def raise_failures(rewards: Sequence[Callable]) -> None:
    """Raises RewardError in every process, with what was said in each that has one, where any has."""
    if PartialState().num_processes == 1:
        return
    said = [str(failure) for reward in rewards if (failure := getattr(reward, "failure", None))]
    rank = PartialState().process_index
    everywhere = gather_object([f"process {rank}: {each}" if rank else each for each in said])
    if everywhere:
        raise RewardError("; ".join(everywhere))
