"""The repetition reward: a penalty on saying the same thing again."""

from collections.abc import Hashable, Sequence
from typing import Any

from rewards.columns import token_lengths
from rewards.contract import Reward, RewardError


class Repetition(Reward):
    """`max_penalty` times the share of token n-grams that occurred before in the completion; 0 if all are new.

    "Demystifying Long Chain-of-Thought Reasoning" (arXiv 2502.03373), appendix C.2. Tokens make it independent of the
    language.
    """

    name = "repetition"

    def __init__(self, ngram_size: int = 20, max_penalty: float = -1.0):
        if ngram_size < 1 or max_penalty > 0:
            raise RewardError(
                f"reward repetition: ngram_size is {ngram_size} and max_penalty {max_penalty}; "
                "the first must be 1 or more, the second 0 or less"
            )
        self.ngram_size = ngram_size
        self.max_penalty = max_penalty

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float]:
        token_lengths(self.__name__, completion_ids)
        return [self.max_penalty * repeated_share(ids, self.ngram_size) or 0.0 for ids in completion_ids]


def repeated_share(ids: Sequence[Hashable], ngram_size: int) -> float:
    """The share of n-grams that are a repetition of an earlier one, in [0, 1)."""
    ngrams = [tuple(ids[start : start + ngram_size]) for start in range(len(ids) - ngram_size + 1)]
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0
