"""What an engine wrote for a rollout, before and after rewards have scored it."""

from dataclasses import dataclass, field

import torch

from pipeline.engines import Completion


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
    totals: list[float] = field(default_factory=list)
    """The reward that each completion of this process trains on; NaN where none was given."""


@dataclass
class Group:
    """The completions of one question."""

    inputs: list[dict]
    prompt_ids: list[int]
    completions: list[Completion]
    verdicts: dict[str, list]


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
