"""The verifiers a question row can name, and what each does in the caller's process before any worker is asked.

A verifier takes a completion's text and its row, and either settles the verdict at once or returns the `Job`s that a
worker process has to do. Verifiers that settle everything at once cost microseconds and are linear in the text.
"""

import ast
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rewards.grading.answers import MAX_ANSWERS, Stated, stated_answers
from rewards.grading.choices import by_text, choice_letter, labelled, names_choices, plain
from rewards.grading.marks import boxed
from rewards.grading.mathematics import compare_plain, in_brackets_of, is_prose, members
from rewards.grading.notation import tidy
from rewards.grading.number_words import read_number
from rewards.grading.remarks import is_value, last_clause, lone_formula, unquantified, without_remark
from rewards.grading.verdict import Verdict

MAX_WORDY = 2000
"""Characters of an answer with words around its value."""
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
    alone: bool = False
    """Whether the process that does it does nothing before and after it; costs milliseconds."""


Judged = Verdict | list[Job]
"""A verdict, or the jobs that must all be correct for a correct one."""


def each_answer(judge: Callable[[Stated, dict[str, Any]], Verdict | Job]) -> Callable[[str, dict[str, Any]], Judged]:
    """A verifier of completions from a judge of single answers: every answer that is given must be correct."""

    def verifier(text: str, row: dict[str, Any]) -> Judged:
        return all_correct(answers_of(text, row, judge.__name__ == "choice"), judge, row)

    verifier.__doc__ = judge.__doc__
    return verifier


def answers_of(text: str, row: dict[str, Any], choice: bool = False) -> list[Stated]:
    """The distinct answers of a completion. A row's `prose: last_number` takes the last number where none is marked."""
    answers = stated_answers(text, gold_text(row), row.get("prose") == "last_number", choice)
    return list({answer.text: answer for answer in answers}.values())


def all_correct(
    answers: list[Stated], judge: Callable[[Stated, dict[str, Any]], Verdict | Job], row: dict[str, Any]
) -> Judged:
    """The verdict on answers that must all be correct. More than a few different ones cannot be."""
    judged = [judge(answer, row) for answer in answers[:MAX_ANSWERS] or [Stated("", "", "")]]
    verdicts = [verdict for verdict in judged if isinstance(verdict, Verdict)]
    if Verdict.GOLD_UNUSABLE in verdicts:
        return Verdict.GOLD_UNUSABLE
    if not answers:
        return Verdict.NO_ANSWER
    if len(answers) > MAX_ANSWERS:
        return Verdict.WRONG
    for verdict in verdicts:
        if verdict is not Verdict.CORRECT:
            return verdict
    return [job for job in judged if isinstance(job, Job)] or Verdict.CORRECT


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict of a completion from those of its jobs: correct only if all are."""
    order = (Verdict.GOLD_UNUSABLE, Verdict.WRONG, Verdict.NO_ANSWER, Verdict.SCORER_FAILED, Verdict.CORRECT)
    return min(verdicts, key=order.index)


@each_answer
def exact(answer: Stated, row: dict[str, Any]) -> Verdict:
    """The gold text itself, white space apart; a whole number may carry a plus sign or thousands commas."""
    gold = exact_key(gold_text(row))
    if not gold:
        return Verdict.GOLD_UNUSABLE
    return Verdict.CORRECT if gold in (exact_key(answer.text), exact_key(answer.raw)) else Verdict.WRONG


def exact_key(text: str) -> str:
    text = " ".join(text.split())
    if re.fullmatch(r"[+\-−]?(?:0|[1-9][0-9]{0,60})|[+\-−]?[1-9][0-9]{0,2}(?:,[0-9]{3}){1,20}", text):
        return str(int(text.replace(",", "").replace("−", "-")))
    return text


def math(text: str, row: dict[str, Any]) -> Judged:
    """A mathematical answer in any notation; see `rewards.grading.mathematics`.

    The members of a list may stand in as many boxes as it has members.
    """
    answers = answers_of(text, row)
    boxes = [answer.text for answer in answers if answer.kind == "box"]
    if len(boxes) > 1 and len(boxes) == len(answers) and members(math_gold(row)) == len(boxes):
        joined = in_brackets_of(math_gold(row), boxes)
        answers = [Stated(joined, joined, "box")]
    return all_correct(answers, same_mathematics, row)


def same_mathematics(answer: Stated, row: dict[str, Any]) -> Verdict | Job:
    gold, text, asked = math_gold(row), answer.text, percent_asked(row)
    letter, value = labelled(gold)
    chosen, said = labelled(text)
    if letter and chosen and (letter != chosen or not value or not said):
        return Verdict.CORRECT if letter == chosen else Verdict.WRONG
    gold, text = value or gold, said or text
    settled = compare_plain(gold, text, asked)
    if settled not in (Verdict.WRONG, None):
        return settled
    readings = [text] if settled is None else []
    for reading in other_readings(text, is_prose(gold)):
        judged = compare_plain(gold, reading, asked)
        if judged is Verdict.CORRECT:
            return judged
        readings += [reading] if judged is None else []
    return mathematics_job(gold, readings[0], asked, readings[1:]) if readings else Verdict.WRONG


def other_readings(text: str, in_words: bool = False) -> list[str]:
    """What an answer says without the words around it; nothing more of one that is longer than words around a value.

    `in_words` says that words are a value here.
    """
    if len(text) > MAX_WORDY:
        return []
    short = last_clause(without_remark(text))
    found = [short] if in_words or is_value(short) else []
    found += [lone_formula(text), unquantified(text)]
    return [reading for reading in dict.fromkeys(found) if reading and reading != text]


def mathematics_job(gold: str, answer: str, asked: bool = True, others: Sequence[str] = ()) -> Job:
    """The comparison of two mathematical answers in a worker; `others` are other readings of the answer."""
    payload = {"gold": gold, "answer": answer, "percent_asked": asked, "others": list(others)}
    return Job("rewards.grading.mathematics:compare", payload, deadline_s=10.0, cpu_s=2.0)


def percent_asked(row: dict[str, Any]) -> bool:
    """Whether a question may ask for a figure in percent; one that is not there may."""
    question = row.get("question")
    return not isinstance(question, str) or bool(re.search(r"%|percent|百分", question[-4000:], re.IGNORECASE))


def choice(text: str, row: dict[str, Any]) -> Judged:
    """One letter of a multiple choice, or the text of that choice where the row lists its `choices`."""
    answers = answers_of(text, row, choice=True)
    options = [str(option) for option in row.get("choices") or []]
    taken = [answer for answer in answers if is_choice(answer.text, options)]
    return all_correct(taken or answers[-1:], one_choice, row)  # a value on the way to the letter is no choice


def is_choice(answer: str, options: list[str]) -> bool:
    """Whether an answer means one of the choices, or more of them, and is no value on the way to one."""
    if choice_letter(answer, options) or names_choices(answer):
        return True
    return any(by_text(answer, options, place) is not False for place in range(len(options)))


def one_choice(answer: Stated, row: dict[str, Any]) -> Verdict | Job:
    gold = choice_letter(gold_text(row))
    if gold is None:
        return Verdict.GOLD_UNUSABLE
    options = [str(option) for option in row.get("choices") or []]
    letter = choice_letter(answer.text, options)
    if letter is not None:
        return Verdict.CORRECT if letter == gold else Verdict.WRONG
    place = string.ascii_uppercase.index(gold)
    same = by_text(answer.text, options, place) if options else False
    if same is None:
        return mathematics_job(plain(options[place]), answer.text)
    return Verdict.CORRECT if same else Verdict.WRONG


@each_answer
def countdown(answer: Stated, row: dict[str, Any]) -> Verdict:
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
    reached = countdown_reached(answer.text, numbers, target.value, row.get("numbers_used") == "some")
    return Verdict.CORRECT if reached else Verdict.WRONG


def countdown_reached(expression: str, numbers: Sequence[Any], target: Fraction | int, some: bool = False) -> bool:
    """Whether an expression has the target's value and uses each number once; with `some`, at most once."""
    evaluated = evaluate(expression)
    if evaluated is None:
        return False
    value, used = evaluated
    given = Counter(read_number(str(number)).value for number in numbers)
    return (used <= given if some else used == given) and value == target


def evaluate(expression: str) -> tuple[Fraction, Counter] | None:
    """The exact value of an arithmetic expression and the numbers in it; None if it is anything else.

    Only + − × ÷, parentheses and whole numbers; an equals sign may follow, with the value it has.
    """
    expression = tidy(expression[: MAX_EXPRESSION + 1])
    for symbol, sign in (("\\times", "*"), ("\\cdot", "*"), ("\\div", "/"), ("×", "*"), ("·", "*"), ("÷", "/")):
        expression = expression.replace(symbol, sign)
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


def math_gold(row: dict[str, Any]) -> str:
    """The gold answer; where it is a solution with boxes, what stands in them."""
    gold = gold_text(row)
    if "\\boxed" not in gold and "\\fbox" not in gold:
        return gold
    return ", ".join(dict.fromkeys(boxed(gold))) or re.sub(r"^\\+f?(?:boxed|box)\s*\{", "", gold)


def gold_text(row: dict[str, Any]) -> str:
    """The row's gold answer as text; empty where it has none."""
    answer = row.get("answer")
    if answer is None or (isinstance(answer, float) and answer != answer):
        return ""
    return str(answer).rstrip().lstrip(" \r\n")  # a tab or a form feed may have been the \t or \f of a command
