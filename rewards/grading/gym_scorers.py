"""Strict scorers for reasoning-gym tasks whose own scorer pays for what was not asked, or evaluates text as Python.

Each takes the answer and the entry, and says whether the answer deserves full marks. Nothing here, and nothing that is
called from here, evaluates the text of an answer as Python.
"""

import ast
import json
import operator
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rewards.grading.number_words import read_number
from rewards.grading.verifiers import countdown_reached

Entry = dict[str, Any]
MAX_ANSWER = 5000
"""Characters of an answer that is read as an expression."""
MAX_EXPONENT = 400
"""A larger whole power is refused, before algebra multiplies it out."""
NAMED_FUNCTIONS = frozenset("sin cos tan exp log ln sqrt asin acos atan sinh cosh tanh".split())  # noqa: SIM905
SENTENCE_OF_DENIAL = re.compile(r"\s*(?:not|never|neither|isn't|it is not|no,)\b", re.IGNORECASE)
HEDGE = re.compile(r"\b(?:or|maybe|perhaps)\b", re.IGNORECASE)


def takes_back(answer: str, entry: Entry) -> bool:
    """Whether an answer denies or hedges what it says, in words that the gold answer does not have."""
    gold = str(entry.get("answer") or "")
    if SENTENCE_OF_DENIAL.match(answer) and not SENTENCE_OF_DENIAL.match(gold):
        return True
    return bool(HEDGE.search(answer)) and not HEDGE.search(gold) and bool(gold)


def same_figure(answer: str, entry: Entry) -> bool:
    """A number, all of it: its sign, its thousands commas, its fraction."""
    ours, theirs = read_number(str(entry["answer"])), read_number(answer.strip())
    return ours is not None and theirs is not None and (ours.value, ours.percent) == (theirs.value, theirs.percent)


def same_numbers(answer: str, entry: Entry) -> bool:
    """A list of numbers, each exactly that of the gold answer."""
    ours, theirs = listed(str(entry["answer"])), listed(answer)
    return ours is not None and ours == theirs


def listed(text: str) -> list[Fraction] | None:
    try:
        found = json.loads(text.replace("'", '"'))
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list):
        return None
    numbers = [read_number(str(one)) for one in found]
    return None if any(number is None for number in numbers) else [number.value for number in numbers]


def same_words(answer: str, entry: Entry) -> bool:
    return [word.strip() for word in answer.split(",")] == list(entry["metadata"]["sorted_words"])


def same_duration(answer: str, entry: Entry) -> bool:
    """A duration in the form that the gold answer has, and of its length."""
    ours, theirs = duration(str(entry["answer"])), duration(answer)
    return ours is not None and ours == theirs


def duration(text: str) -> tuple[int, Fraction] | None:
    match = re.fullmatch(
        r"\s*+(?:(?P<days>-?[0-9]+) days?(?:,\s*+|\s*$))?(?:(?P<hours>[0-9]+):(?P<minutes>[0-5]?[0-9])"
        r"(?::(?P<seconds>[0-5]?[0-9](?:\.[0-9]+)?))?)?\s*\.?",
        text,
    )
    if match is None or not any(match.groups()):
        return None
    hours, minutes = int(match["hours"] or 0), int(match["minutes"] or 0)
    return int(match["days"] or 0), 3600 * hours + 60 * minutes + Fraction(match["seconds"] or 0)


def same_truth(answer: str, entry: Entry) -> bool:
    return answer.strip().strip(".").casefold() == str(entry["answer"]).casefold()


def same_complex(answer: str, entry: Entry) -> bool:
    """A complex number with the real and the imaginary part of the result."""
    match = re.fullmatch(
        r"(?:(?P<real>[+-]?[0-9.]++)(?!\*?[ij]))?(?:(?P<imaginary>[+-]?[0-9.]*)\*?[ij])?", re.sub(r"\s", "", answer)
    )
    if match is None or not match.group():
        return False
    try:
        real = Fraction(match["real"] or 0)
        part = match["imaginary"]
        imaginary = Fraction(0) if part is None else Fraction(part + "1" if part in ("", "+", "-") else part)
    except ValueError:
        return False
    return [real, imaginary] == [Fraction(str(value)) for value in entry["metadata"]["result"]]


def same_probability(answer: str, entry: Entry) -> bool:
    """A probability to a part in a thousand."""
    ours, theirs = read_number(str(entry["answer"])), read_number(answer)
    if ours is None or theirs is None:
        return False
    gap = [abs(value - ours.value) for value in (theirs.values()[-1],)]
    return min(gap) <= abs(ours.value) / 1000


def same_text(answer: str, entry: Entry) -> bool:
    return answer.strip() == str(entry["answer"]).strip()


def same_sentence(answer: str, entry: Entry) -> bool:
    return " ".join(answer.split()).casefold() == " ".join(str(entry["answer"]).split()).casefold()


def same_roles(answer: str, entry: Entry) -> bool:
    """Who is what, in any order, each said once and nothing else."""
    ours, theirs = roles(str(entry["answer"])), roles(answer)
    return bool(ours) and ours == theirs


BETWEEN = frozenset(("is", "a", "an", "and", "so", "thus", "hence", "therefore"))


def roles(text: str) -> list[tuple[str, str]]:
    words = [word for word in re.findall(r"[^\W_]+", text.casefold()) if word not in BETWEEN]
    return sorted(zip(words[::2], words[1::2], strict=False)) if len(words) % 2 == 0 else []


def one_of_the_boards(answer: str, entry: Entry) -> bool:
    return answer in entry["metadata"]["valid_answers"]


def reaches_24(answer: str, entry: Entry) -> bool:
    return countdown_reached(answer, entry["metadata"]["numbers"], 24)


def reaches_target(answer: str, entry: Entry) -> bool:
    """Some golds begin with the number that is taken away (`-72 + 2 + 274`)."""
    taken_away = re.fullmatch(r"\s*-\s*([0-9]+)\s*\+(?P<rest>.*)", answer, re.DOTALL)
    if taken_away:
        rest, equals, value = taken_away["rest"].partition("=")
        answer = f"{rest} - {taken_away[1]} {equals}{value}"
    return countdown_reached(answer, entry["metadata"]["numbers"], entry["metadata"]["target"])


SCORERS: dict[str, Callable[[str, Entry], bool]] = {
    "gsm_symbolic": same_figure,
    "number_sorting": same_numbers,
    "word_sorting": same_words,
    "time_intervals": same_duration,
    "game_of_life_halting": same_truth,
    "complex_arithmetic": same_complex,
    "coin_flip": same_probability,
    "string_insertion": same_text,
    "spiral_matrix": same_text,
    "binary_matrix": same_text,
    "letter_jumble": same_sentence,
    "spell_backward": same_sentence,
    "knights_knaves": same_roles,
    "n_queens": one_of_the_boards,
    "puzzle24": reaches_24,
    "countdown": reaches_target,
}
"""By task; every other task is scored by reasoning-gym itself, on answers of the shape in `SHAPES`."""

SHAPES = {
    "sokoban": re.compile(r"[UDLRudlr\s]+"),
    "survo": re.compile(r"[-0-9\s]+"),
    "fraction_simplification": re.compile(
        r"\s*+\$*+\s*+(?:\\d?frac\s*\{\s*[0-9]+\s*\}\s*\{\s*[0-9]+\s*\}|[0-9]+\s*/\s*[0-9]+)\s*+\$*+\s*+"
    ),
    "kakurasu": re.compile(r"[01\s]+"),
    "quantum_lock": re.compile(r"\s*+[A-Ca-c](?:\s*+(?:(?:→|->|,|-)\s*+)?[A-Ca-c])*+\s*+"),
}
"""What an answer to a task consists of, where its scorer skips whatever else there is."""


def _refused(_: Any) -> Any:
    raise ValueError("no arithmetic")


OPERATIONS = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.BitAnd: operator.and_, ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
}  # fmt: skip


def safe_value(text: Any, *_: Any) -> Any:
    """A Python literal, or the value of arithmetic on numbers; it stands for `eval`. Raises ValueError for the rest."""
    text = str(text)
    if len(text) > MAX_ANSWER:
        raise ValueError("too long")
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _computed(ast.parse(text.strip(), mode="eval").body)


def _computed(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd | ast.Invert):
        inside = _computed(node.operand)
        return {ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert}[type(node.op)](inside)
    if isinstance(node, ast.BinOp):
        left, right = _computed(node.left), _computed(node.right)
        if type(node.op) in OPERATIONS:
            return OPERATIONS[type(node.op)](left, right)
        if isinstance(node.op, ast.Pow | ast.LShift | ast.RShift) and abs(right) <= MAX_EXPONENT:
            return {ast.Pow: operator.pow, ast.LShift: operator.lshift, ast.RShift: operator.rshift}[type(node.op)](
                left, right
            )
    raise ValueError(f"no arithmetic: {type(node).__name__}")


def safe_expression(text: str, local_dict: dict[str, Any] | None = None) -> Any:
    """A sympy expression of arithmetic in letters and well-known functions, built node by node.

    It stands for `sympy.parse_expr`, which evaluates text as Python. Raises ValueError for anything else.
    """
    text = str(text)
    if len(text) > MAX_ANSWER or not text.isascii():
        raise ValueError("no expression")
    return _built(ast.parse(text.strip().replace("^", "**"), mode="eval").body, local_dict or {})


def _built(node: ast.expr, names: dict[str, Any]) -> Any:
    import sympy

    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return sympy.Integer(node.value) if type(node.value) is int else sympy.Float(node.value)
    if isinstance(node, ast.Name) and re.fullmatch(r"[A-Za-z]{1,2}[0-9]?", node.id):
        return names.get(node.id) or {"E": sympy.E, "pi": sympy.pi}.get(node.id) or sympy.Symbol(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        inside = _built(node.operand, names)
        return -inside if isinstance(node.op, ast.USub) else inside
    if isinstance(node, ast.BinOp):
        left, right = _built(node.left, names), _built(node.right, names)
        if isinstance(node.op, ast.Pow):
            if right.is_number and abs(right) > MAX_EXPONENT:
                raise ValueError("a power too large")
            return left**right
        operations = {ast.Add: left.__add__, ast.Sub: left.__sub__, ast.Mult: left.__mul__, ast.Div: left.__truediv__}
        return operations.get(type(node.op), _refused)(right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in NAMED_FUNCTIONS:
        [argument] = node.args
        return getattr(sympy, node.func.id)(_built(argument, names))
    raise ValueError(f"no arithmetic: {type(node).__name__}")
