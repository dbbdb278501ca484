"""Verifying answers with a function of the user's own, named by the row."""

from pathlib import Path
from typing import Any

from rewards.contract import RewardError, shown
from rewards.grading.answers import Stated
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import Job, each_answer
from rewards.registry import find, located

DEADLINE_S = 10.0


@each_answer
def custom(answer: Stated, row: dict[str, Any]) -> Verdict | Job:
    """The function that the row's `verify_with` names (`file.py:name` or `package.module:name`).

    It is called as `f(answer, row)` in a worker process, and says True or False, a score (1 is correct), or None where
    the row cannot be judged. Whatever else it does counts as a failure of the scorer.
    """
    use = row.get("verify_with")
    if not isinstance(use, str) or ":" not in use:
        return Verdict.GOLD_UNUSABLE
    return Job(
        "rewards.grading.custom_verifier:check",
        {"use": located(use, Path()), "answer": answer.text, "row": row},
        DEADLINE_S,
    )


def check(payload: dict[str, Any]) -> str:
    """Ask the user's function; for a worker process only."""
    score = find(payload["use"])(payload["answer"], payload["row"])
    if score is None:
        return Verdict.GOLD_UNUSABLE
    if isinstance(score, str) or not isinstance(score, (bool, int, float)) or score != score:
        raise RewardError(f"{payload['use']}: returned {shown(score)}; expected True, False, a number or None")
    return Verdict.CORRECT if score >= 1 else Verdict.WRONG
