"""Which final answers vote together (cons@k): those that the verifier calls equal, and no others."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from rewards.grading.answers import final_answer
from rewards.grading.choices import choice_letter
from rewards.grading.judging import do_jobs, key
from rewards.grading.mathematics import compare_plain, prose_key
from rewards.grading.notation import squeeze, tidy
from rewards.grading.number_words import read_number
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import exact_key, mathematics_job, percent_asked


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


def votes(texts: Sequence[str], row: Mapping[str, Any]) -> list[str | None]:
    """What each completion of one question votes for; None where it gives no answer.

    A mathematical answer joins the first vote whose every answer the verifier calls equal to it. Equality is not
    passed on (5 is 5 m, and 5 is 5 cm), so a vote never holds two answers that differ.
    """
    if row.get("verifier") != "math":
        return [answer_key(text, row) for text in texts]
    stated = [final_answer(text) for text in texts]
    keys = [None if answer is None else squeeze(tidy(answer)) for answer in stated]
    answers = {own: answer for own, answer in zip(keys, stated, strict=True) if own is not None}
    equal = equal_pairs(answers, row)
    joined: list[list[str]] = []
    for own in answers:
        group = next((some for some in joined if all(frozenset((own, other)) in equal for other in some)), None)
        if group is None:
            joined.append([own])
        else:
            group.append(own)
    vote = {own: group[0] for group in joined for own in group}
    return [None if own is None else vote[own] for own in keys]


def equal_pairs(answers: Mapping[str, str], row: Mapping[str, Any]) -> set[frozenset[str]]:
    """The pairs of keys whose answers the verifier calls equal, whichever of the two is taken for the gold."""
    asked = percent_asked(dict(row))
    equal, open_pairs = set(), []
    for (one, first), (other, second) in itertools.combinations(answers.items(), 2):
        verdicts = [compare_plain(first, second, asked), compare_plain(second, first, asked)]
        if Verdict.CORRECT in verdicts:
            equal.add(frozenset((one, other)))
        elif None in verdicts:
            open_pairs.append((frozenset((one, other)), mathematics_job(first, second, asked)))
    settled = do_jobs([job for _, job in open_pairs])
    return equal | {pair for pair, job in open_pairs if settled[key(job)] is Verdict.CORRECT}
