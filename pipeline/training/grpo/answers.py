"""What an engine wrote for a rollout, before and after rewards have scored it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object

from pipeline.engines import Completion
from rewards import RewardError
from rewards.reward_set import RunReward


@dataclass
class Answers:
    """Completions of some questions and their rewards, groups in a row."""

    inputs: list[dict]
    """Dataset rows, each question `group_size` times."""
    prompt_ids: list[list[int]]
    """One a question."""
    completions: list[Completion]
    rewards: torch.Tensor
    """(completions of all processes, reward functions)"""
    verdicts: dict[str, list]
    """Of each reward function that gives verdicts, one a completion of this process, or None."""
    logged: list[dict[str, Any]]
    """What rewards have said of each completion of this process (`log_extra`)."""
    totals: list[float] = field(default_factory=list)
    """The reward that each completion of this process trains on; NaN where none was given."""


@dataclass
class Group:
    """The completions of one question."""

    inputs: list[dict]
    prompt_ids: list[int]
    completions: list[Completion]
    verdicts: dict[str, list]
    logged: list[dict[str, Any]]


@dataclass
class Written:
    """Completions without their rewards."""

    prompts: list
    """As in the dataset, one a completion."""
    prompt_ids: list[list[int]]
    """One a question."""
    completions: list[Completion]
    step: int
    """Optimizer steps that the policy had made which wrote them."""
    seconds: float
    """What the engine took."""


def as_answers(prompts: list, completions: list[Completion]) -> list:
    """The completions as TRL gives them to rewards: texts, or messages where prompts are messages."""
    texts = [c.text for c in completions]
    return texts if isinstance(prompts[0], str) else [[{"role": "assistant", "content": text}] for text in texts]


def logged_by(rewards: Sequence[RunReward], count: int) -> list[dict[str, Any]]:
    """What rewards have said of each of `count` completions; a name that two of them use also names the reward."""
    names = Counter(name for reward in rewards for name in reward.logged)
    said: list[dict[str, Any]] = [{} for _ in range(count)]
    for reward in rewards:
        for name, values in reward.logged.items():
            for line, value in zip(said, values, strict=True):
                line[name if names[name] == 1 else f"{reward.__name__}.{name}"] = value
    return said


def raise_failures(rewards: Sequence[RunReward]) -> None:
    """Raises RewardError in every process, with the messages of all that have one, where any has.

    TRL gathers rewards over processes right after it has asked for them: one that left there would have the others wait
    for it. So with several processes a reward keeps its failure (`RunReward.keeps_failure`) until all have scored.
    """
    if PartialState().num_processes == 1:
        return
    said = [str(reward.failure) for reward in rewards if reward.failure]
    rank = PartialState().process_index
    everywhere = gather_object([f"process {rank}: {each}" if rank else each for each in said])
    if everywhere:
        raise RewardError("; ".join(everywhere))
