"""Keys by which equal final answers vote together (cons@k)."""

from collections.abc import Mapping
from typing import Any

from rewards.grading.answers import final_answer
from rewards.grading.choices import choice_letter
from rewards.grading.mathematics import prose_key
from rewards.grading.notation import squeeze, tidy
from rewards.grading.number_words import read_number
from rewards.grading.verifiers import exact_key


def answer_key(text: str, row: Mapping[str, Any]) -> str | None:
    """The key of a completion's final answer, equal for equal answers; None if it gives none.

    Numbers vote by value (0.5, 1/2 and \\frac{1}{2} are one), choices by letter, everything else by its text without
    white space, case and delimiters. `row` says by its `verifier` which it is.
    """
    answer = final_answer(text)
    if answer is None:
        return None
    verifier = row.get("verifier")
    if verifier == "exact":
        return exact_key(answer)
    if verifier == "choice":
        return choice_letter(answer) or prose_key(tidy(answer))
    number = read_number(tidy(answer))
    if number is None:
        return squeeze(prose_key(tidy(answer)))
    return f"{number.value}%" if number.percent else str(number.value)
