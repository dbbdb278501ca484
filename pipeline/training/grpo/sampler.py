"""Which questions a rollout asks, as a function of the seed and of the rollout's number alone."""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class QuestionSampler(Sampler):
    """Row numbers for all rollouts of a run, in one pass: `questions` rows a rollout, each `group_size` times in a row,
    the whole rollout `repeats` times (TRL reads it once a micro-step).

    Rows are drawn without replacement, in a new order each time all have been asked. A run that resumes skips forward
    in the same sequence, whatever epoch it stopped in.
    """

    def __init__(self, *, size: int, questions: int, group_size: int, repeats: int, rollouts: int, seed: int):
        if size < questions:
            raise ValueError(
                f"the dataset has {size} questions and a rollout asks {questions} different ones "
                "(rollout_prompts, or prompts_per_step); lower that, or give more questions"
            )
        self.size, self.questions, self.group_size = size, questions, group_size
        self.repeats, self.rollouts, self.seed = repeats, rollouts, seed

    def __len__(self) -> int:
        return self.rollouts * self.repeats * self.questions * self.group_size

    def __iter__(self) -> Iterator[int]:
        for asked in itertools.islice(self._asked(), self.rollouts):
            for _ in range(self.repeats):
                for row in asked:
                    yield from [row] * self.group_size

    def asked(self, rollout: int) -> list[int]:
        """Row numbers of the questions of one rollout (the first is 0), each once."""
        return next(itertools.islice(self._asked(), rollout, None))

    def _asked(self) -> Iterator[list[int]]:
        """Rollouts without end. An order's tail too short for a rollout is left out: no rollout asks twice."""
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            order = torch.randperm(self.size, generator=generator).tolist()
            for first in range(0, self.size - self.questions + 1, self.questions):
                yield order[first : first + self.questions]
