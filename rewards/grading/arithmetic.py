"""The value of simple LaTeX expressions, without computer algebra.

Most symbolic answers are made of numbers, roots, fractions, powers, π and a variable or two. Their values at a few
points tell whether two of them are equal, in microseconds and in the caller's process. Whatever this does not
surely understand gives None and is left to `rewards.grading.mathematics.compare` in a worker: words and functions,
relations, sets, mixed numbers, the letters e and i, anything too large or too close to call.
"""

import itertools
import math
import re

from rewards.grading.atoms import MAX_NESTING
from rewards.grading.verdict import Verdict

POINTS = (61, 113, -171)
"""Numerators of the points at which variables are set, of both signs and far from round numbers."""
EQUAL, DIFFERENT = 2e-14, 1e-5
"""Relative differences below which two values are equal, and above which they differ; between them algebra decides."""
LARGEST = 1e12
"""A larger value has too few digits left for a float to tell it from its neighbour."""
PRECISION_LEFT = 1e3
"""How much larger than the result anything on the way to it may be."""

TOKEN = re.compile(
    r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|\\(frac|sqrt|pi|cdot|times|div)(?![A-Za-z])|(?<![A-Za-z])([a-z])(?![A-Za-z])|([-+*/^(){}\[\]]))"
)


class NotSimple(Exception):
    """The text is more than this module surely understands."""


def compare_values(gold: str, answer: str) -> Verdict | None:
    """Correct or wrong by the values of two expressions; None where algebra has to decide."""
    try:
        left, right = Expression(gold), Expression(answer)
        differences = []
        for point in POINTS:
            differences.append(difference(left.value(point), right.value(point)))
            if differences[-1] > DIFFERENT:
                return Verdict.WRONG
    except (NotSimple, OverflowError, ZeroDivisionError, ValueError):
        return None
    return Verdict.CORRECT if max(differences) < EQUAL and not (left.decimal or right.decimal) else None


def difference(one: float, other: float) -> float:
    """The relative difference of two values; two zeros have none."""
    size = max(abs(one), abs(other))
    return abs(one - other) / size if size else 0.0


class Expression:
    """A recursive-descent reader that computes as it reads; letters stand for their value at the point."""

    def __init__(self, text: str):
        self.tokens = tokens_of(text)
        self.decimal = any(kind == "number" and "." in token for kind, token in self.tokens)

    def value(self, point: int) -> float:
        """The value with each variable set to its own number near `point` / 97; raises `NotSimple`."""
        self.point, self.position, self.depth, self.largest = point, 0, 0, 0.0
        value = self.sum()
        if self.position != len(self.tokens) or not math.isfinite(value):
            raise NotSimple
        if self.largest > min(LARGEST, PRECISION_LEFT * abs(value)):
            raise NotSimple
        return value

    def next(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def take(self, token: str) -> bool:
        """Step over the token if it comes next."""
        taken = self.next() == ("sign", token) or self.next() == ("command", token)
        self.position += taken
        return taken

    def expect(self, token: str) -> None:
        if not self.take(token):
            raise NotSimple

    def seen(self, value: float) -> float:
        """Note how large the numbers on the way get: what is lost beside them is lost for good."""
        self.largest = max(self.largest, abs(value))
        return value

    def sum(self) -> float:
        value = self.seen(self.product())
        while sign := self.sign():
            value = self.seen(value + sign * self.seen(self.product()))
        return value

    def sign(self) -> int:
        """Step over a sign: 1 or -1, or 0 if none comes next."""
        if self.take("+"):
            return 1
        return -1 if self.take("-") else 0

    def product(self) -> float:
        value = self.signed()
        while True:
            kind, token = self.next()
            before = self.tokens[self.position - 1]
            if token in ("*", "cdot", "times"):
                self.position += 1
                value *= self.signed()
            elif token in ("/", "div"):
                self.position += 1
                value /= self.signed()
            elif kind == "number" or (before[0] == "number" and token == "frac"):
                raise NotSimple  # two numbers side by side, or a mixed number
            elif kind == "letter" or token in ("(", "{", "frac", "sqrt", "pi"):
                value *= self.power()
            else:
                return value

    def signed(self) -> float:
        sign = self.sign() or 1
        return sign * self.power()

    def power(self) -> float:
        base = self.atom()
        if not self.take("^"):
            return base
        if self.take("{"):
            exponent = self.sum()
            self.expect("}")
        else:
            exponent = -self.atom() if self.take("-") else self.atom()
        if self.next() == ("sign", "^"):
            raise NotSimple
        return raised(base, exponent)

    def atom(self) -> float:
        kind, token = self.next()
        self.position += 1
        if kind == "number":
            return float(token)
        if kind == "letter":
            return (self.point + 37 * (ord(token) - ord("a"))) / 97
        if token == "pi":
            return math.pi
        if token == "frac":
            return self.argument() / self.argument()
        if token == "sqrt":
            degree = 2.0
            if self.take("["):
                degree = self.nested("]")
            return raised(self.argument(), 1 / degree)
        if token in ("(", "{"):
            return self.nested(")" if token == "(" else "}")
        raise NotSimple

    def argument(self) -> float:
        """What a LaTeX command applies to: a braced expression, one digit or one letter."""
        if self.take("{"):
            return self.nested("}")
        kind, token = self.next()
        if kind == "letter" or (kind == "number" and len(token) == 1):
            return self.atom()
        raise NotSimple

    def nested(self, closing: str) -> float:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise NotSimple
        value = self.sum()
        self.depth -= 1
        self.expect(closing)
        return value


def raised(base: float, exponent: float) -> float:
    """A real power; a root of a negative number raises `NotSimple`."""
    power = base**exponent
    if isinstance(power, complex):
        raise NotSimple
    return power


def tokens_of(text: str) -> list[tuple[str, str]]:
    """The text as (kind, token) pairs; raises `NotSimple` for anything else in it."""
    tokens, position = [], 0
    text = text.replace("\\left", "").replace("\\right", "").strip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise NotSimple
        number, command, letter, sign = match.groups()
        if letter in ("e", "i"):
            raise NotSimple
        kind = "number" if number else "command" if command else "letter" if letter else "sign"
        tokens.append((kind, number or command or letter or sign))
        position = match.end()
    for (kind, token), (_, next_token) in itertools.pairwise(tokens):
        if kind == "letter" and token in "fgh" and next_token == "(":
            raise NotSimple  # a function of a variable, not a product
    if not tokens:
        raise NotSimple
    return tokens
