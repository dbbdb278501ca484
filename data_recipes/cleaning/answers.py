"""Answers that their own verifier cannot read: found before a model is trained on the question."""

from collections.abc import Sequence

from data_recipes.question import Question
from pipeline.core.errors import ConfigError
from rewards import RewardError, Verdict, judge_answers
from rewards.grading.code_tests import read_tests
from rewards.grading.mathematics import is_usable_gold
from rewards.grading.verifiers import math_gold

COMPARED = ("math", "exact", "choice", "countdown", "reasoning_gym", "custom")
"""Verifiers whose gold answer must be right by its own verdict."""
WITHOUT_ANSWER = ("countdown", "code", "reasoning_gym", "custom")
"""Verifiers that can work without an `answer` in the row."""
PROBE = "<answer>7919/104729</answer>"
"""An answer that is wrong nearly everywhere, to learn whether the gold one can be compared at all."""
LONGEST_ANSWER_WORDS = 40


def unreadable_answers(rows: Sequence[Question]) -> dict[str, str]:
    """Row id -> what is wrong with its answer, for rows that a verifier should judge and cannot.

    Rows without an answer are no one's to judge and are left out. Raises ConfigError for an unknown verifier.
    """
    found = {}
    judged = [row for row in rows if row.answer is not None or row.verifier in WITHOUT_ANSWER]
    checked = [row for row in judged if row.verifier not in ("none", "code")]
    for row, verdict in zip(checked, _probed(checked), strict=True):
        if row.answer == "":
            found[row.id] = "cannot be read: it is empty, or lacks the mark of answer_after or answer_boxed"
        elif row.verifier == "math" and is_a_whole_text(row.answer):
            found[row.id] = "is a whole text, not a final answer (see answer_after and answer_boxed)"
        elif verdict is Verdict.GOLD_UNUSABLE:
            found[row.id] = "cannot be read"
    sound = [row for row in checked if row.id not in found and row.verifier in COMPARED and row.answer is not None]
    own_answers = [f"<answer>{row.answer}</answer>" for row in sound]
    for row, verdict in zip(sound, _verdicts(own_answers, sound), strict=True):
        if verdict not in (Verdict.CORRECT, Verdict.SCORER_FAILED):
            found[row.id] = f"is not right by its own verifier '{row.verifier}' ({verdict})"
    return found | _without_tests(judged)


def _probed(rows: Sequence[Question]) -> list[Verdict]:
    """What becomes of a wrong answer beside each gold one. Most mathematical gold answers can be told to be usable
    without a comparison, hundreds of times faster; for a whole text it makes no difference."""
    verdicts = [
        Verdict.WRONG
        if row.verifier == "math" and (is_a_whole_text(str(row.answer)) or is_usable_gold(math_gold(row.columns())))
        else None
        for row in rows
    ]
    others = [row for row, known in zip(rows, verdicts, strict=True) if known is None]
    compared = iter(_verdicts([PROBE] * len(others), others))
    return [next(compared) if known is None else known for known in verdicts]


def is_a_whole_text(answer: str) -> bool:
    """Whether an answer is a solution rather than its result."""
    return "####" in answer or len(answer.split()) > LONGEST_ANSWER_WORDS


def _without_tests(rows: Sequence[Question]) -> dict[str, str]:
    tests = {row.id: read_tests(row.columns().get("tests"), row.columns()) for row in rows if row.verifier == "code"}
    return {own_id: "has no tests that can be run" for own_id, read in tests.items() if read is None}


def _verdicts(texts: Sequence[str], rows: Sequence[Question]) -> list[Verdict]:
    try:
        return judge_answers(texts, [row.columns() for row in rows])
    except RewardError as error:
        raise ConfigError(str(error)) from error
