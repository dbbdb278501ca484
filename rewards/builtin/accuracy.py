"""The accuracy reward: is the final answer right?"""

from collections.abc import Sequence
from typing import Any

from rewards.contract import GivesVerdicts, JudgesAnswers, Prefetches, Reward
from rewards.grading.judging import judge_columns, prefetch, to_judge
from rewards.grading.verdict import Verdict


class Accuracy(Reward, JudgesAnswers, GivesVerdicts, Prefetches):
    """1 if the final answer is right by the row's `verifier`, 0 if it is wrong or missing, None if nothing can be said.

    The answer is read from the answer part only, never from the reasoning. Rows without a verifier, and rows whose gold
    answer or scorer fails, give None.
    """

    name = "accuracy"

    def __init__(self, allow_weak_sandbox: bool = False):
        self.allow_weak_sandbox = allow_weak_sandbox
        self.verdicts: list[Verdict | None] = []

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        self.verdicts = judge_columns(self.__name__, prompts, completions, columns, self.allow_weak_sandbox)
        return [None if verdict is None else verdict.score for verdict in self.verdicts]

    def prefetch(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> None:
        """Start on the verdicts of completions that a later call will ask for."""
        _, texts, rows = to_judge(self.__name__, prompts, completions, columns)
        prefetch(texts, rows, self.allow_weak_sandbox)
