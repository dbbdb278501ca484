"""The accuracy reward: is the final answer right?"""

from collections.abc import Sequence
from typing import Any

from rewards.contract import GivesVerdicts, JudgesAnswers, Prefetches, Reward, RewardError
from rewards.grading.judging import judge_columns, prefetch, to_judge
from rewards.grading.verdict import Verdict

PROSE = ("marked", "last_number")


class Accuracy(Reward, JudgesAnswers, GivesVerdicts, Prefetches):
    """1 if the final answer is right by the row's `verifier`, 0 if it is wrong or missing, None if it cannot be judged.

    The answer is read from the answer part only, never from the reasoning. Rows without a verifier, and rows whose gold
    answer or scorer fails, give None.

    `prose` says what counts where a completion marks no answer: `marked` (the default) its last formula or short line,
    `last_number` also the last number in it, for base models that mark nothing. It may reward an intermediate number.
    """

    name = "accuracy"

    def __init__(self, allow_weak_sandbox: bool = False, prose: str = "marked"):
        if prose not in PROSE:
            raise RewardError(f"accuracy: prose is {prose!r}; expected one of {', '.join(PROSE)}")
        self.prose = prose
        self.allow_weak_sandbox = allow_weak_sandbox
        self.verdicts: list[Verdict | None] = []

    def __call__(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> list[float | None]:
        columns = self.with_prose(columns, len(completions))
        self.verdicts = judge_columns(self.__name__, prompts, completions, columns, self.allow_weak_sandbox)
        return [None if verdict is None else verdict.score for verdict in self.verdicts]

    def prefetch(
        self, prompts: Sequence[Any], completions: Sequence[Any], completion_ids: Any = None, **columns: Any
    ) -> None:
        """Start on the verdicts of completions that a later call will ask for."""
        columns = self.with_prose(columns, len(completions))
        _, texts, rows = to_judge(self.__name__, prompts, completions, columns)
        prefetch(texts, rows, self.allow_weak_sandbox)

    def with_prose(self, columns: dict[str, Any], rows: int) -> dict[str, Any]:
        """The columns with what counts as an answer in prose, for the verifiers."""
        return columns if self.prose == "marked" else {**columns, "prose": [self.prose] * rows}
