"""Comparing what the reader of formulas does not know, by math-verify, with its false credits taken back.

For a worker process that can be killed (`rewards.grading.pool`): a computer algebra system that reads what a model
wrote has no bound on time or memory. math-verify 0.9 credits some wrong answers; what is done about each:

- ±2021 against 2021, and an answer "3 or 4" against 4: alternatives are compared as whole sets;
- two different equations that both reduce to zero: equations are equal when one is a non-zero multiple of the other;
- very small fractions taken as equal: values are compared to many digits, at points if they have variables;
- a sum or an integral that was not worked out is no answer, unless the gold leaves it too.
"""

import functools
import logging
import re
from typing import Any

MAX_POWER_DIGITS = 20_000
"""Decimal digits; an integer power with more is only compared as text."""
POINTS = (61, -113, 171)
"""Numerators of the points at which variables are set."""


def same_by_algebra(gold: str, answer: str) -> bool | None:
    """Whether two texts are equal by algebra; None where the gold cannot be read. Whatever fails is not equal."""
    gold_expression = parse(gold)
    if gold_expression is None:
        return None
    if too_large(gold) or too_large(answer):
        return False
    try:
        answer_expression = parse(answer)
        return answer_expression is not None and equal(gold_expression, answer_expression)
    except Exception:  # a computer algebra system raises anything; what it cannot compare with the gold is not equal
        return False


def prepare() -> None:
    """Import and warm what this needs."""
    logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own timeout is off, as it must be
    for formula in ("\\frac{\\sqrt{2}}{3}", "\\int_0^1 x dx", "x^2+3x=1"):
        same_by_algebra(formula, formula)  # the parser learns its grammar's tables as it goes


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
