"""Length rewards, in tokens: DAPO's soft overlong penalty, Kimi k1.5's length reward, and the cosine reward."""

import math
from collections.abc import Sequence
from typing import Any

from rewards.columns import groups_of, token_lengths
from rewards.contract import GivesVerdicts, JudgesAnswers, Reward, RewardError
from rewards.grading.judging import judge_columns
from rewards.grading.verdict import Verdict


class SoftOverlong(Reward):
    """0 up to `max_tokens` − `cache_tokens`, then falling to −1 at `max_tokens` and beyond.

    DAPO (arXiv 2503.14476), equation 13. `max_tokens` should be the longest completion that is sampled, so that a
    completion cut off there gets the whole penalty.
    """

    name = "soft_overlong"

    def __init__(self, max_tokens: int, cache_tokens: int):
        if not 0 < cache_tokens <= max_tokens:
            raise RewardError(
                f"reward soft_overlong: cache_tokens is {cache_tokens} and max_tokens {max_tokens}; "
                "cache_tokens must be above 0 and no more than max_tokens"
            )
        self.max_tokens = max_tokens
        self.cache_tokens = cache_tokens

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float]:
        lengths = token_lengths(self.__name__, completion_ids)
        free = self.max_tokens - self.cache_tokens
        return [-min(1.0, max(0.0, (length - free) / self.cache_tokens)) for length in lengths]


class KimiLength(Reward, JudgesAnswers, GivesVerdicts):
    """Within a group, from +0.5 for its shortest completion to −0.5 for its longest; a wrong one gets no more than 0.

    Kimi k1.5 (arXiv 2501.12599), section 2.3.3. A group is the completions of one prompt, counted off by
    `num_generations`; where all have one length, all get 0. None where the completion has no verdict.
    """

    name = "kimi_length"

    def __init__(self, num_generations: int | None = None, allow_weak_sandbox: bool = False):
        self.num_generations = num_generations
        self.allow_weak_sandbox = allow_weak_sandbox
        self.verdicts: list[Verdict | None] = []

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        lengths = token_lengths(self.__name__, completion_ids)
        self.verdicts = judge_columns(self.__name__, prompts, completions, columns, self.allow_weak_sandbox)
        scores: list[float | None] = [None] * len(lengths)
        for group in groups_of(prompts, self.num_generations):
            shortest = min(lengths[index] for index in group)
            longest = max(lengths[index] for index in group)
            for index in group:
                verdict = self.verdicts[index]
                if verdict is None or verdict.score is None:
                    continue
                spread = longest - shortest
                score = 0.5 - (lengths[index] - shortest) / spread if spread else 0.0
                scores[index] = score if verdict is Verdict.CORRECT else min(0.0, score)
        return scores


class CosineLength(Reward, JudgesAnswers, GivesVerdicts):
    """A right answer earns less the longer it is, a wrong one loses less the longer it is, along half a cosine.

    "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.1. From the first value of `correct`
    and `wrong` at no length to the second at `max_tokens`; beyond that it stays at the second. None without a verdict.
    """

    name = "cosine_length"

    def __init__(
        self,
        max_tokens: int,
        correct: Sequence[float] = (1.0, 0.5),
        wrong: Sequence[float] = (-1.0, -0.5),
        allow_weak_sandbox: bool = False,
    ):
        if max_tokens < 1 or len(correct) != 2 or len(wrong) != 2:
            raise RewardError(
                f"reward cosine_length: max_tokens is {max_tokens}, correct {correct}, wrong {wrong}; "
                "the first must be 1 or more, the others two values each, [short, long]"
            )
        self.max_tokens = max_tokens
        self.correct = correct
        self.wrong = wrong
        self.allow_weak_sandbox = allow_weak_sandbox
        self.verdicts: list[Verdict | None] = []

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        lengths = token_lengths(self.__name__, completion_ids)
        self.verdicts = judge_columns(self.__name__, prompts, completions, columns, self.allow_weak_sandbox)
        return [self.score(length, verdict) for length, verdict in zip(lengths, self.verdicts, strict=True)]

    def score(self, length: int, verdict: Verdict | None) -> float | None:
        if verdict is None or verdict.score is None:
            return None
        short, long = self.correct if verdict is Verdict.CORRECT else self.wrong
        progress = min(length / self.max_tokens, 1.0)
        return long + (short - long) * 0.5 * (1.0 + math.cos(math.pi * progress))
