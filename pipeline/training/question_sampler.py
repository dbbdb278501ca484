"""Which questions a rollout asks: by the seed and the rollout's number alone, or also by how groups came out before."""

import itertools
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch.utils.data import Sampler

from pipeline.config.grpo import GRPOSettings, OnlineDifficulty
from pipeline.core.files import write_durably

FILE = "questions.json"


class QuestionSampler(Sampler):
    """Row numbers for all rollouts of a run, in one pass: `questions` rows a rollout, each `group_size` times in a row,
    the whole rollout `repeats` times (TRL reads it once a micro-step).

    Rows are drawn without replacement, in a new order each time all have been asked, so that each is asked once an
    epoch, whatever the sizes (`orders`). A run that resumes skips forward
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
        """Rollouts without end."""
        rows = itertools.chain.from_iterable(orders(self.size, self.questions, self.seed))
        while True:
            yield list(itertools.islice(rows, self.questions))


def orders(size: int, questions: int, seed: int) -> Iterator[list[int]]:
    """All `size` rows in a new order, pass after pass, for rollouts that take `questions` of them one after the other.

    A rollout may begin in one pass and end in the next. The order of a pass is random but for this: as many rollouts as
    go into a pass whole, and each of them, ask no row twice.
    """
    whole = size // questions * questions
    generator = torch.Generator().manual_seed(seed)
    begun: list[int] = []
    """What the rollouts have asked since the last so many of them were complete."""
    while True:
        order = torch.randperm(size, generator=generator).tolist()
        asked = set(begun)
        first = [row for row in order if row not in asked][: whole - len(begun)]
        taken = set(first)
        order = first + [row for row in order if row not in taken]
        yield order
        begun = (begun + order)[size + len(begun) - (size + len(begun)) % whole :]


class OnlineQuestions:
    """Row numbers of each rollout, chosen when it is due by how the groups of earlier ones came out.

    All rows take their turns in the orders that `QuestionSampler` has; with `difficulty` a row whose last groups were
    flat may be passed over. Without a flat group the rollouts of a pass are those of `QuestionSampler`. Whether a row
    is passed over follows from the seed, the pass and how often it was flat. The state is part of checkpoints (`save`,
    `load`): it stands where the last rollout was noted, so that one that failed is asked again.
    """

    def __init__(self, *, size: int, questions: int, seed: int, difficulty: OnlineDifficulty | None = None):
        self.size, self.questions, self.seed, self.difficulty = size, questions, seed, difficulty
        self._flat: dict[int, int] = {}
        """Row -> how many of its last groups in a row were flat."""
        self._turn = self._next_turn = 0
        """Turns that rows had before the rollout that was noted last ended; and before the one that was asked last."""
        self._orders: dict[int, list[int]] = {}

    @classmethod
    def needed(cls, settings: GRPOSettings, size: int, seed: int) -> "OnlineQuestions | None":
        """Of a data set of `size` rows; None where the order of questions follows from the seed alone."""
        if not settings.chooses_questions:
            return None
        return cls(size=size, questions=settings.prompts_sampled, seed=seed, difficulty=settings.online_difficulty)

    def ask(self) -> list[int]:
        """The next rollout's rows, each once."""
        chosen: list[int] = []
        turn = self._turn
        while len(chosen) < self.questions:
            number, place = divmod(turn, self.size)
            row = self._order(number)[place]
            if row not in chosen and self._is_asked(row, number):
                chosen.append(row)
            turn += 1
        self._next_turn = turn
        return chosen

    def note(self, rows: Sequence[int], flat: Sequence[bool]) -> None:
        """How the groups of the rollout that was asked last came out."""
        for row, was_flat in zip(rows, flat, strict=True):
            self._flat[row] = self._flat.get(row, 0) + 1 if was_flat else 0
        self._turn = self._next_turn

    def chance(self, row: int) -> float:
        """Chance that the row is asked when its turn comes."""
        if self.difficulty is None:
            return 1.0
        return max(self.difficulty.least, self.difficulty.flat_weight ** self._flat.get(row, 0))

    def save(self, folder: Path) -> None:
        flat = {row: count for row, count in self._flat.items() if count}
        write_durably(folder / FILE, json.dumps({"turn": self._turn, "flat": sorted(flat.items())}))

    def load(self, folder: Path) -> None:
        state = json.loads((folder / FILE).read_bytes())
        self._turn = self._next_turn = state["turn"]
        self._flat = {row: count for row, count in state["flat"]}

    def _is_asked(self, row: int, number: int) -> bool:
        chance = self.chance(row)
        return chance >= 1 or random.Random(f"{self.seed} {number} {row}").random() < chance

    def _order(self, number: int) -> list[int]:
        """The order of a pass: the draws of one random stream."""
        if number not in self._orders:
            passes = orders(self.size, self.questions, self.seed)
            self._orders = {number: next(itertools.islice(passes, number, None))}
        return self._orders[number]
