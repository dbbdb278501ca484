"""The verifiers a question row can name, and what each does in the caller's process before any worker is asked.

A verifier takes a completion's text and its row, and either settles the verdict at once or returns the `Job`s that a
worker process has to do. Verifiers that settle everything at once cost microseconds and are linear in the text.
"""

import ast
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rewards.grading import mathematics
from rewards.grading.answers import final_answers
from rewards.grading.number_words import read_number
from rewards.grading.verdict import Verdict

MAX_EXPRESSION = 300
"""Characters of a countdown expression."""


@dataclass(frozen=True)
class Job:
    """Work for a worker process."""

    function: str
    """`module:function`; it takes `payload` and returns a verdict."""
    payload: Any
    """Picklable."""
    deadline_s: float
    """Seconds of wall clock from when the work starts."""
    cpu_s: float | None = None
    """CPU seconds, where the work is computing alone; a busy machine then costs no verdict."""


Judged = Verdict | list[Job]
"""A verdict, or the jobs that must all be correct for a correct one."""


def each_answer(judge: Callable[[str, dict[str, Any]], Verdict | Job]) -> Callable[[str, dict[str, Any]], Judged]:
    """A verifier of completions from a judge of single answers: every explicit answer must be correct."""

    def verifier(text: str, row: dict[str, Any]) -> Judged:
        answers = final_answers(text)
        judged = [judge(answer, row) for answer in answers or [""]]
        verdicts = [verdict for verdict in judged if isinstance(verdict, Verdict)]
        if Verdict.GOLD_UNUSABLE in verdicts:
            return Verdict.GOLD_UNUSABLE
        if not answers:
            return Verdict.NO_ANSWER
        for verdict in verdicts:
            if verdict is not Verdict.CORRECT:
                return verdict
        return [job for job in judged if isinstance(job, Job)] or Verdict.CORRECT

    verifier.__doc__ = judge.__doc__
    return verifier


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a completion from those of its jobs: correct only if all are."""
    order = (Verdict.GOLD_UNUSABLE, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.SCORER_FAILED, Verdict.CORRECT)
    return min(verdicts, key=order.index)


@each_answer
def exact(answer: str, row: dict[str, Any]) -> Verdict:
    """The gold text itself, white space apart; a whole number may carry a plus sign or thousands commas."""
    gold = exact_key(gold_text(row))
    if not gold:
        return Verdict.GOLD_UNUSABLE
    return Verdict.CORRECT if exact_key(answer) == gold else Verdict.WRONG


def exact_key(text: str) -> str:
    text = " ".join(text.split())
    if re.fullmatch(r"[+\-−]?[0-9]{1,60}|[+\-−]?[0-9]{1,3}(?:,[0-9]{3}){1,20}", text):
        return str(int(text.replace(",", "").replace("−", "-")))
    return text


@each_answer
def math(answer: str, row: dict[str, Any]) -> Verdict | Job:
    """A mathematical answer in any notation; see `rewards.grading.mathematics`."""
    gold = gold_text(row)
    settled = mathematics.compare_plain(gold, answer)
    if settled is not None:
        return settled
    return Job("rewards.grading.mathematics:compare", {"gold": gold, "answer": answer}, deadline_s=10.0, cpu_s=3.0)


@each_answer
def choice(answer: str, row: dict[str, Any]) -> Verdict:
    """One letter of a multiple choice, or the text of that choice where the row lists its `choices`."""
    gold = choice_letter(gold_text(row))
    if gold is None:
        return Verdict.GOLD_UNUSABLE
    letter = choice_letter(answer)
    if letter is None:
        texts = [mathematics.prose_key(mathematics.tidy(str(text))) for text in row.get("choices") or []]
        stated = mathematics.prose_key(mathematics.tidy(answer))
        matches = [index for index, text in enumerate(texts) if text == stated]
        letter = chr(ord("A") + matches[0]) if len(matches) == 1 else None
    return Verdict.CORRECT if letter == gold else Verdict.WRONG


CHOICE = re.compile(
    r"(?:(?:the\s+)?(?:correct\s+)?(?:option|choice|answer)\s*:?\s*)?"
    r"(?:\(\s*(?P<round>[A-Z])\s*\)|\[(?P<square>[A-Z])\]|(?P<bare>[A-Z])(?=[.):]|\s*$))[.):]*(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
OTHER_CHOICE = re.compile(r"\([A-Z]\)|(?<![A-Za-z])[A-Z][.):]|\b(?:or|and|nor)\s+[A-Z]\b|\bnot\b|[/,&]\s*[A-Z]\b|或")


def choice_letter(text: str) -> str | None:
    """The one letter that an answer chooses, with or without the text of the choice after it."""
    text = mathematics.tidy(text[:2000])
    match = CHOICE.fullmatch(text)
    if match is None or (not text.isascii() and not match["rest"]):
        return None
    if OTHER_CHOICE.search(match["rest"]):
        return None
    return (match["round"] or match["square"] or match["bare"]).upper()


@each_answer
def countdown(answer: str, row: dict[str, Any]) -> Verdict:
    """An expression that reaches the row's `target` from its `numbers`, each used once.

    `numbers_used: some` in the row lets numbers be left out; none may ever be used twice.
    """
    numbers, target = row.get("numbers"), read_number(str(row.get("target")))
    if not isinstance(numbers, list | tuple) or not numbers or target is None:
        return Verdict.GOLD_UNUSABLE
    if any(read_number(str(number)) is None for number in numbers):
        return Verdict.GOLD_UNUSABLE
    if row.get("numbers_used") not in (None, "all", "some"):
        return Verdict.GOLD_UNUSABLE
    evaluated = evaluate(answer)
    if evaluated is None:
        return Verdict.WRONG
    value, used = evaluated
    given = Counter(read_number(str(number)).value for number in numbers)
    fits = used <= given if row.get("numbers_used") == "some" else used == given
    return Verdict.CORRECT if fits and value == target.value else Verdict.WRONG


def evaluate(expression: str) -> tuple[Fraction, Counter] | None:
    """The exact value of an arithmetic expression and the numbers in it; None if it is anything else.

    Only + − × ÷, parentheses and whole numbers; an equals sign may follow, with the value it has.
    """
    expression = mathematics.tidy(expression[: MAX_EXPRESSION + 1])
    for symbol, plain in (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("÷", "/")):
        expression = expression.replace(symbol, plain)
    left, equals, right = expression.partition("=")
    if len(expression) > MAX_EXPRESSION or not re.fullmatch(r"[0-9+\-*/() ]+", left) or "**" in left or "//" in left:
        return None
    try:
        used: Counter = Counter()
        value = _value(ast.parse(left.strip(), mode="eval").body, used)
    except (SyntaxError, ZeroDivisionError, RecursionError, MemoryError, ValueError):
        return None
    stated = read_number(right) if equals else None
    if equals and (stated is None or stated.value != value):
        return None
    return value, used


def _value(node: ast.expr, used: Counter) -> Fraction:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used[Fraction(node.value)] += 1
        return Fraction(node.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not isinstance(node.operand, ast.Constant):
        return -_value(node.operand, used)
    if isinstance(node, ast.BinOp):
        left, right = _value(node.left, used), _value(node.right, used)
        if isinstance(node.op, ast.Add):
            return left + right
        if isinstance(node.op, ast.Sub):
            return left - right
        if isinstance(node.op, ast.Mult):
            return left * right
        if isinstance(node.op, ast.Div):
            return left / right
    raise ValueError(f"not arithmetic: {type(node).__name__}")


def gold_text(row: dict[str, Any]) -> str:
    """The row's gold answer as text; empty where it has none."""
    answer = row.get("answer")
    return "" if answer is None or (isinstance(answer, float) and answer != answer) else str(answer).strip()
