"""What a scorer can say about one completion."""

from enum import StrEnum


class Verdict(StrEnum):
    """The judgement of one completion. Only the first three are the model's doing, and only those give a score."""

    CORRECT = "correct"
    """The answer equals the gold answer, or passes every test."""
    WRONG = "wrong"
    """An answer was found, and it is not the gold answer."""
    NO_ANSWER = "no_answer"
    """The answer part holds nothing that can be read as a final answer."""
    GOLD_UNUSABLE = "gold_unusable"
    """The row is at fault: its gold answer, tests or numbers are missing or cannot be read."""
    SCORER_FAILED = "scorer_failed"
    """The scorer is at fault: it ran past its deadline, crashed, or is not available on this machine."""

    @property
    def score(self) -> float | None:
        """1.0 for correct, 0.0 for wrong or no answer, None where the model cannot be judged."""
        if self is Verdict.CORRECT:
            return 1.0
        return 0.0 if self in (Verdict.WRONG, Verdict.NO_ANSWER) else None
