"""Whether two mathematical answers are equal: exact numbers first, then math-verify with its false credits taken back.

`compare` runs in a worker process that can be killed (`rewards.grading.pool`): a computer algebra system that reads
what a model wrote has no bound on time or memory. `compare_plain` settles the ordinary cases without one.

math-verify 0.9 credits some wrong answers; what is done about each:

- ±2021 against 2021, and an answer "3 or 4" against 4: alternatives are compared as whole sets;
- two different equations that both reduce to zero: equations are equal when one is a non-zero multiple of the other;
- very small fractions taken as equal: values are compared exactly, or relative to their size;
- anagrams ("on" against "no", read as products of letters): words are compared as words;
- a unit or a number base left out of account (5 cm against 5 m, 12_5 against 12_7): compared as text.
"""

import functools
import logging
import re
from typing import Any

from rewards.grading.arithmetic import MAX_NESTING, POINTS, compare_values
from rewards.grading.number_words import read_number, same_number
from rewards.grading.verdict import Verdict

MAX_ANSWER = 1000
"""Characters; a longer answer is only compared as text."""
MAX_POWER_DIGITS = 20_000
"""Decimal digits; an integer power with more is only compared as text."""

INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"), None)
COMMANDS = re.compile(r"\\(?:text|mathrm|mathbf|textbf|mbox|operatorname|mathit|rm)\s*\{([^{}]*)\}")
SPACING = re.compile(r"(?<!\\)\\(?:left|right|displaystyle|,|;|!|:|\s|quad|qquad)|~")
WORDS = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?![A-Za-z])")
FUNCTIONS = frozenset(
    "sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp sqrt max min gcd lcm mod det deg "  # noqa: SIM905
    "pi inf infinity or and".split()
)
UNIT = re.compile(
    r"(?:\s|\\ |(?<=[0-9}\)]))(?P<unit>(?:(?:square|cubic|sq|cu)\.?\s+)?"
    r"(?:centimet(?:er|re)s?|millimet(?:er|re)s?|kilomet(?:er|re)s?|met(?:er|re)s?|inch(?:es)?|feet|foot|miles?|yards?|"
    r"cm|mm|km|m|in|ft|mi|yd|kilograms?|grams?|kg|g|mg|lbs?|pounds?|ounces?|oz|seconds?|minutes?|hours?|days?|weeks?|"
    r"months?|years?|s|sec|min|h|hr|hrs|mph|kph|km/h|m/s|m/s\^2|dollars?|cents?|euros?|units?|points?|degrees?|"
    r"lit(?:er|re)s?|ml|l|gallons?|apples?|people|students|ways|times|%|"
    r"[个元米克人次天秒度种岁只本块]|厘米|千米|公里|千克|公斤|小时|分钟|平方米|平方厘米|立方米)"
    r"(?:\s*\^?\s*\{?[23]\}?)?)\s*$",
    re.IGNORECASE,
)
UNEVALUATED = re.compile(r"\\(?:int|iint|oint|sum|prod|lim)(?![A-Za-z])")
"""What a final answer must have worked out, unless the gold answer leaves it too."""
UNIT_NAMES = {
    "centimeter": "cm", "centimetre": "cm", "millimeter": "mm", "millimetre": "mm", "kilometer": "km",
    "kilometre": "km", "meter": "m", "metre": "m", "inch": "in", "inche": "in", "feet": "ft", "foot": "ft",
    "mile": "mi", "yard": "yd", "kilogram": "kg", "gram": "g", "lb": "pound", "ounce": "oz", "sec": "s",
    "second": "s", "minute": "min", "hour": "h", "hr": "h", "liter": "l", "litre": "l", "km/h": "kph",
}  # fmt: skip
NEUTRAL_UNITS = frozenset({"unit", "point", "time", "way", "apple", "people", "student", "degree", "dollar"})


def compare_plain(gold: str, answer: str) -> Verdict | None:
    """Settle a comparison by text and plain numbers alone; None where it takes algebra.

    Runs in the caller's process: linear in the text, and safe on any input.
    """
    gold, answer = tidy(gold), tidy(answer)
    if not gold:
        return Verdict.GOLD_UNUSABLE
    if squeeze(gold) == squeeze(answer):
        return Verdict.CORRECT
    if not answer:
        return Verdict.NO_ANSWER
    if len(answer) > MAX_ANSWER or not has_digit_or_letter(answer):
        return Verdict.WRONG
    if re.search(r"[^\x00-\x7f]", answer) and has_foreign_digit(answer):
        return Verdict.WRONG
    if is_prose(gold):
        return Verdict.CORRECT if prose_key(gold) == prose_key(answer) else Verdict.WRONG
    (gold_value, gold_unit), (answer_value, answer_unit) = split_unit(gold), split_unit(answer)
    gold_number, answer_number = read_number(gold_value), read_number(answer_value)
    if gold_number is not None and answer_number is not None:
        same = same_number(gold_number, answer_number) and same_unit(gold_unit, answer_unit)
        return Verdict.CORRECT if same else Verdict.WRONG
    if too_large(answer) or too_large(gold) or nesting(answer) > MAX_NESTING or subscripts(gold) != subscripts(answer):
        return Verdict.WRONG
    if set(UNEVALUATED.findall(answer)) - set(UNEVALUATED.findall(gold)):
        return Verdict.WRONG
    if not same_unit(gold_unit, answer_unit):
        return Verdict.WRONG
    return compare_values(latex(gold_value), latex(answer_value))


def tidy(text: str) -> str:
    """`text` without invisible edges, math delimiters, text wrappers, spacing commands and closing punctuation."""
    text = text.strip().strip("\u200b\u200c\u200d\u2060\ufeff").strip()
    text = text.replace("$$", "$").replace("\\$", "\\dollar").replace("$", "").replace("\\dollar", "")
    text = text.replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "")
    text = COMMANDS.sub(r" \1 ", text) if "\\" in text else text
    text = text.replace("\\%", "%").replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac").replace("−", "-")
    text = SPACING.sub(lambda found: "" if found.group() in ("\\left", "\\right", "\\!") else " ", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree", " degrees ", text)
    return re.sub(r"\s+", " ", text).strip().rstrip(".,;:。，").strip()


def squeeze(text: str) -> str:
    return text.replace(" ", "")


def has_digit_or_letter(text: str) -> bool:
    return any(character.isalnum() or character in "∞∅" for character in text)


def has_foreign_digit(text: str) -> bool:
    """Whether a digit outside ASCII, or a character that cannot be seen, stands in the answer."""
    return any(
        (character.isdigit() or character.isnumeric() or ord(character) in INVISIBLE) and not character.isascii()
        for character in text
    )


def is_prose(gold: str) -> bool:
    """Whether the gold answer is made of words, so that algebra has nothing to say about it."""
    if re.search(r"[0-9=<>^_{}\\]", gold) and not re.search(r"[\u4e00-\u9fff]", gold):
        return False
    words = WORDS.findall(gold)
    return any(word.lower() not in FUNCTIONS for word in words) or bool(re.search(r"[^\x00-\x7f∞∅π√±×÷·≤≥∪∩]", gold))


def prose_key(text: str) -> str:
    """Words compared without case, articles, quotes and brackets around them."""
    text = re.sub(r"^[\s(\"'“”]+|[\s)\"'“”.]+$", "", text.casefold())
    return re.sub(r"\s+", " ", re.sub(r"^(?:the|an?)\s+", "", text))


def split_unit(text: str) -> tuple[str, str | None]:
    """A value and the unit written after it (or the currency before it)."""
    match = UNIT.search(text)
    if match is None or not re.search(r"[0-9}\)]", text[: match.start() + 1]):
        return re.sub(r"^[€£¥]\s*", "", text), None
    unit = match.group("unit").lower().strip()
    if unit == "%":
        return text, None
    power = "".join(re.findall(r"[23]$", unit.rstrip("}")))
    unit = re.sub(r"\s*\^?\s*\{?[23]\}?$", "", unit)
    square = re.match(r"(square|sq|cubic|cu)\.?\s+", unit)
    if square:
        power, unit = ("2" if square.group(1) in ("square", "sq") else "3"), unit[square.end() :]
    unit = unit if unit in ("s",) else unit.removesuffix("s")
    unit = UNIT_NAMES.get(unit, unit)
    return text[: match.start()].strip() or text, unit + power


def same_unit(gold: str | None, answer: str | None) -> bool:
    """Units must agree where both are written; a unit that one side leaves out is taken as meant."""
    return gold is None or answer is None or gold == answer


def subscripts(text: str) -> list[str]:
    """Subscripts of numbers, which name a base: 12_5 is not 12_7, and not 12."""
    return [found.replace("{", "").replace("}", "") for found in re.findall(r"[0-9]\s*_\s*(\{[0-9]+\}|[0-9])", text)]


def nesting(text: str) -> int:
    """How deep the brackets go, closed or not."""
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
    return deepest


def too_large(text: str) -> bool:
    """Whether evaluating the text would build a factorial tower, or more than `MAX_POWER_DIGITS` digits."""
    if re.search(r"!\s*\)*\s*!", text) or re.search(r"[0-9]{6,}\s*!", text):
        return True
    tower: list[int] = []
    for power in re.finditer(r"(?:\^|\*\*)\s*[{(]?\s*\(?-?\s*([0-9]+)\s*(?=(\^|\*\*|!)?)", text):
        tower.append(int(power.group(1)[:12]))
        if power.group(2):
            continue
        if tower_exponent(tower) > MAX_POWER_DIGITS:
            return True
        tower = []
    return bool(tower)


def tower_exponent(tower: list[int]) -> float:
    """The exponent that a tower of powers comes to, capped far above anything that is evaluated."""
    exponent = 1.0
    for level in reversed(tower):
        exponent = min(float(level) ** min(exponent, 40.0), 1e12)
    return exponent


def compare(payload: dict[str, Any]) -> str:
    """Compare `payload["answer"]` with `payload["gold"]` by algebra; for the worker process only."""
    gold, answer = tidy(payload["gold"]), tidy(payload["answer"])
    gold_expression = parse(split_unit(gold)[0])
    if gold_expression is None:
        return Verdict.GOLD_UNUSABLE
    answer_expression = parse(split_unit(answer)[0])
    if answer_expression is None:
        return Verdict.WRONG
    return Verdict.CORRECT if equal(gold_expression, answer_expression) else Verdict.WRONG


def prepare() -> None:
    """Import and warm what `compare` needs, before the first deadline runs."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeout is off, as it must be
    for formula in ("\\frac{\\sqrt{2}}{3}", "(1,2)", "x^2+3x=1", "\\{1,2\\}", "\\begin{pmatrix}1&2\\end{pmatrix}"):
        compare({"gold": formula, "answer": formula})  # the parser learns its grammar's tables as it goes


def latex(text: str) -> str:
    """`text` in the LaTeX that math-verify reads: words for operators and constants turned into commands."""
    text = re.sub(r"(?<![\\A-Za-z])(?:pi|π)(?![A-Za-z])|π", r"\\pi ", text)
    text = re.sub(r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])|∞", r"\\infty ", text)
    text = re.sub(r"±|(?<![0-9A-Za-z])\+/-|\+-", r"\\pm ", text)
    text = re.sub(r"√\s*\(([^()]*)\)|√\s*([0-9A-Za-z]+)", r"\\sqrt{\1\2}", text)
    text = re.sub(r"(?<=[0-9)])\s*([eE])\s*([+-]?[0-9]+)", r"\\cdot 10^{\2}", text)
    for symbol, command in (("×", "\\times "), ("·", "\\cdot "), ("÷", "/"), ("≤", "\\le "), ("≥", "\\ge "),
                            ("∪", "\\cup "), ("∩", "\\cap "), ("∅", "\\emptyset "), ("**", "^")):  # fmt: skip
        text = text.replace(symbol, command)
    text = re.sub(r"^[A-Za-z]\s*\\in\b\s*(?=.)", "", text)
    return re.sub(r"\s*,?\s+(?:or|and)\s+|\s*或\s*", ", ", text)


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Any:
    """A sympy expression of the whole text, or None if it cannot be read as mathematics."""
    from math_verify import LatexExtractionConfig
    from math_verify import parse as parse_latex

    found = parse_latex(
        f"${latex(text)}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None
    )
    return found[0] if found else None


def equal(gold: Any, answer: Any) -> bool:
    """Whether two parsed answers are equal.

    Scalars are compared by value; sets, relations and matrices by math-verify, which must say so without a known false
    credit.
    """
    from math_verify import verify
    from sympy import Eq, Expr, FiniteSet, Symbol, Tuple

    if isinstance(gold, Expr) and isinstance(answer, Expr) and not isinstance(gold, Symbol):
        same = same_value(gold, answer)
        if same is not None:
            return same
    if not verify(gold, answer, float_rounding=9, numeric_precision=30, timeout_seconds=None):
        return False
    if isinstance(gold, Eq) and isinstance(answer, Eq):
        return same_equation(gold, answer)
    if isinstance(gold, (FiniteSet, Tuple)) != isinstance(answer, (FiniteSet, Tuple)):
        return len(getattr(gold, "args", ())) == len(getattr(answer, "args", ()))
    return True


def same_equation(gold: Any, answer: Any) -> bool:
    """Whether one equation is a non-zero multiple of the other; an identity only equals its own text."""
    from sympy import simplify

    ours, theirs = simplify(gold.lhs - gold.rhs), simplify(answer.lhs - answer.rhs)
    if ours == 0 or theirs == 0:
        return gold == answer
    ratio = simplify(ours / theirs)
    return bool(ratio.is_number and ratio.is_nonzero)


def same_value(gold: Any, answer: Any) -> bool | None:
    """Whether two scalars have one value, at random points if they have variables; None where they have none at all.

    Two expressions that agree to 45 digits at three random points are equal but for a chance of nothing, and it
    takes no simplification, which is where algebra systems hang. With a written decimal, six digits must agree.
    """
    from sympy import Float, Rational

    tolerance = 1e-6 if gold.has(Float) or answer.has(Float) else 1e-45
    symbols = sorted(gold.free_symbols | answer.free_symbols, key=str)
    compared = False
    for point in POINTS if symbols else POINTS[:1]:
        values = {symbol: Rational(point + 37 * index, 97) for index, symbol in enumerate(symbols)}
        ours, theirs = gold.evalf(60, subs=values), answer.evalf(60, subs=values)
        if not (ours.is_number and theirs.is_number and ours.is_finite and theirs.is_finite):
            continue
        if abs(ours - theirs) > tolerance * abs(ours):
            return False
        compared = True
    return True if compared else None
