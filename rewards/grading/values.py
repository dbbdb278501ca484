"""The value of a formula: an exact fraction where it has one, else a number to as many digits as tell it from others.

Sums, products, powers and factorials of whole numbers are exact however large. Roots, logarithms, angles and complex
numbers are computed with mpmath to sixty digits and to as many more as lie between the largest and the smallest number
on the way, so that a small term beside a huge one is never lost. What would take too long raises `TooLarge`, what has
no value `Undefined`; both are certain after a bounded number of steps.
"""

import math
import zlib
from fractions import Fraction
from typing import Any

from rewards.grading.atoms import Node

MAX_BITS = 80_000
"""Bits of an exact number; a larger one is only compared as text."""
MAX_PRECISION = 30_000
"""Bits of a number that is not exact."""
FACTORIAL_OF = 7_000
GUARD = 200
"""Bits beyond those between the largest and the smallest number on the way."""


class Undefined(Exception):
    """A division by zero, a logarithm of zero, or a word where a number should be."""


class TooLarge(Exception):
    """More digits than are worked out."""


class Inexact(Exception):
    """The value is no fraction, and only fractions were asked for."""


class Evaluator:
    """Evaluates trees at a point, `names` to fractions. Without `context` it knows fractions only."""

    def __init__(self, context: Any = None, natural_log: bool = True):
        self.context, self.natural_log = context, natural_log
        self.point: dict[str, Fraction] = {}
        self.largest, self.smallest = 0, 0

    def at(self, node: Node, point: dict[str, Fraction]) -> Any:
        """The value with each variable at its place in `point`."""
        self.point = point
        return self.value(node)

    def value(self, node: Node) -> Any:
        method = getattr(self, "_" + node[0], None)
        if method is None:
            raise Undefined(node[0])
        return self.seen(method(*node[1:]))

    def seen(self, value: Any) -> Any:
        """Note how large and how small the numbers on the way get."""
        if isinstance(value, Fraction):
            if self.context is None or not value:
                return value
            size = value.numerator.bit_length() - value.denominator.bit_length()
        else:
            if not value:
                return value
            if not self.context.isfinite(value):
                raise Undefined("no number")
            size = self.context.mag(value)
        self.largest, self.smallest = max(self.largest, int(size)), min(self.smallest, int(size))
        return value

    def real(self, value: Any) -> Any:
        """A number of mpmath."""
        if self.context is None:
            raise Inexact
        if isinstance(value, Fraction):
            return self.context.mpf(value.numerator) / value.denominator
        return value

    def _num(self, value: Any, _decimals: int | None) -> Fraction:
        return Fraction(value)

    def _const(self, name: str) -> Any:
        if name == "infty":
            raise Undefined("infinite")
        if self.context is None:
            raise Inexact
        return {"pi": +self.context.pi, "e": +self.context.e, "i": self.context.mpc(0, 1)}[name]

    def _var(self, name: str) -> Any:
        return self.point[name]

    def _neg(self, node: Node) -> Any:
        return -self.value(node)

    def _add(self, left: Node, right: Node) -> Any:
        return self.both(left, right, lambda one, other: one + other)

    def _mul(self, left: Node, right: Node) -> Any:
        return self.both(left, right, lambda one, other: one * other)

    def both(self, left: Node, right: Node, operation: Any) -> Any:
        one, other = self.value(left), self.value(right)
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            return bounded(operation(one, other))
        return operation(self.real(one), self.real(other))

    def _div(self, left: Node, right: Node) -> Any:
        one, other = self.value(left), self.value(right)
        if self.is_zero(other):
            raise Undefined("a division by zero")
        if isinstance(one, Fraction) and isinstance(other, Fraction):
            return bounded(one / other)
        return self.real(one) / self.real(other)

    def is_zero(self, value: Any) -> bool:
        if isinstance(value, Fraction):
            return not value
        return not value or self.context.mag(value) < self.smallest - GUARD // 2

    def _pow(self, base: Node, exponent: Node) -> Any:
        one, power = self.value(base), self.value(exponent)
        odd_root = exponent[0] == "div" and isinstance(power, Fraction) and power.numerator in (1, -1)
        return self.power(one, power, odd_root)

    def _root(self, inside: Node, degree: Node) -> Any:
        power = self.value(degree)
        if not isinstance(power, Fraction) or power.denominator != 1 or not 1 < power < 100:
            raise Undefined("a root of no degree")
        return self.power(self.value(inside), 1 / power, True)

    def power(self, base: Any, exponent: Any, odd_root: bool = False) -> Any:
        if self.is_zero(base):
            if isinstance(exponent, Fraction) and exponent > 0:
                return Fraction(0)
            if exponent == 0:
                return Fraction(1)
            raise Undefined("zero to a power below zero")
        if isinstance(exponent, Fraction):
            if isinstance(base, Fraction):
                exact = exact_power(base, exponent)
                if exact is not None:
                    return exact
            elif exponent.denominator == 1:
                if abs(exponent) * (abs(self.context.mag(base)) + 1) > MAX_BITS:
                    raise TooLarge
                return base ** int(exponent)
            if odd_root and exponent.denominator % 2 and self.is_negative(base):
                return -self.power(-base, exponent)
        base, exponent = self.real(base), self.real(exponent)
        logarithm = self.context.log(base) * exponent
        if abs(logarithm) > MAX_BITS:
            raise TooLarge
        return self.context.exp(logarithm)

    def is_negative(self, value: Any) -> bool:
        return value < 0 if isinstance(value, Fraction) or self.context.im(value) == 0 else False

    def _fact(self, node: Node) -> Any:
        number = self.value(node)
        if not isinstance(number, Fraction):
            raise Undefined("the factorial of no fraction")
        if number.denominator == 1:
            if number < 0:
                raise Undefined("the factorial of a number below zero")
            if number > FACTORIAL_OF:
                raise TooLarge
            return Fraction(math.factorial(int(number)))
        if abs(number) > FACTORIAL_OF:
            raise TooLarge
        return self.context_or_inexact().gamma(self.real(number) + 1)

    def context_or_inexact(self) -> Any:
        if self.context is None:
            raise Inexact
        return self.context

    def _binom(self, above: Node, below: Node) -> Any:
        one, other = self.value(above), self.value(below)
        if not (isinstance(one, Fraction) and isinstance(other, Fraction)):
            raise Undefined("a binomial of no fractions")
        if max(abs(one), abs(other)) > MAX_BITS // 2:
            raise TooLarge
        if one.denominator == other.denominator == 1 and one >= 0:
            return Fraction(math.comb(int(one), int(other))) if other >= 0 else Fraction(0)
        return self.context_or_inexact().binomial(self.real(one), self.real(other))

    def _mod(self, left: Node, right: Node) -> Any:
        one, other = self.value(left), self.value(right)
        if not (isinstance(one, Fraction) and isinstance(other, Fraction)) or not other:
            raise Undefined("a remainder of no fractions")
        return one % other

    def _percent(self, node: Node) -> Any:
        return self.value(node) / 100

    def _degree(self, node: Node) -> Any:
        return self.real(self.value(node)) * self.context.pi / 180

    def _opaque(self, name: str, arguments: list[Node]) -> Any:
        """A function that nobody has defined: some value of its own for each argument."""
        seed = zlib.crc32(name.encode()) % 9973 + Fraction(1, 7)
        mixed = ("num", seed, None)
        for place, argument in enumerate(arguments):
            mixed = ("add", mixed, ("mul", ("num", Fraction(place + 2, 3), None), argument))
        total = self.value(mixed)
        return 1 / (total * total + 3) + total / 11

    def _call(self, name: str, arguments: list[Node], below: Node | None) -> Any:
        values = [self.value(argument) for argument in arguments]
        if name in ("max", "min", "gcd", "lcm"):
            return self.several(name, values)
        if len(values) != 1:
            raise Undefined(f"{name} of several")
        return self.of_one(name, values[0], below)

    def several(self, name: str, values: list[Any]) -> Any:
        if name in ("gcd", "lcm"):
            if not all(isinstance(value, Fraction) and value.denominator == 1 for value in values):
                raise Undefined(f"{name} of no whole numbers")
            return Fraction(getattr(math, name)(*map(int, values)))
        if not all(isinstance(value, Fraction) or self.context.im(value) == 0 for value in values):
            raise Undefined(f"{name} of complex numbers")
        return (max if name == "max" else min)(
            values, key=lambda value: value if self.context is None else self.real(value)
        )

    def of_one(self, name: str, value: Any, below: Node | None) -> Any:
        if name == "abs":
            return abs(value)
        if name == "sqrt":
            return self.power(value, Fraction(1, 2))
        if name in ("floor", "ceil"):
            return self.rounded(name, value)
        context = self.context_or_inexact()
        if name in ("ln", "log", "lg"):
            return self.logarithm(name, value, below)
        if isinstance(value, Fraction) and value == 0 and name in ("cot", "csc", "coth"):
            raise Undefined(name)
        value = self.real(value)
        if context.mag(value) > 100 if value else False:
            raise TooLarge
        function = {
            "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arccot": "acot", "arcsec": "asec", "arccsc": "acsc",
            "Re": "re", "Im": "im",
        }.get(name, name)  # fmt: skip
        if name in ("exp", "sinh", "cosh") and context.mag(value) > 15:
            raise TooLarge
        return getattr(context, function)(value)

    def rounded(self, name: str, value: Any) -> Fraction:
        if not isinstance(value, Fraction):
            if self.context.im(value) != 0 or self.context.mag(value) > self.context.prec - GUARD // 2:
                raise Undefined(f"{name} of a number that is not known well enough")
            nearest = int(self.context.nint(value))
            if self.context.mag(value - nearest) < -GUARD // 2 if value != nearest else True:
                return Fraction(nearest)
            return Fraction(int(getattr(self.context, name)(value)))
        return Fraction(math.floor(value) if name == "floor" else math.ceil(value))

    def logarithm(self, name: str, value: Any, below: Node | None) -> Any:
        if self.is_zero(value):
            raise Undefined("the logarithm of zero")
        logarithm = self.context.log(self.real(value))
        if below is None and (name == "ln" or (name == "log" and self.natural_log)):
            return logarithm
        base = self.value(below) if below is not None else Fraction(10)
        if self.is_zero(base) or base == 1:
            raise Undefined("a logarithm to no base")
        return logarithm / self.context.log(self.real(base))


def bounded(value: Fraction) -> Fraction:
    """The value itself. Raises `TooLarge` past the digits that are worked out."""
    if value.numerator.bit_length() + value.denominator.bit_length() > 2 * MAX_BITS:
        raise TooLarge
    return value


def exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """A power of a fraction where it is a fraction, else None."""
    if exponent.denominator != 1:
        if base < 0 or exponent.denominator > 64 or base.numerator.bit_length() > 4096:
            return None
        top, bottom = (whole_root(part, exponent.denominator) for part in (base.numerator, base.denominator))
        if top is None or bottom is None:
            return None
        base, exponent = Fraction(top, bottom), Fraction(exponent.numerator)
    if base in (1, -1):
        return base if exponent % 2 else Fraction(1)
    size = max(base.numerator.bit_length(), base.denominator.bit_length())
    if size * abs(exponent) > MAX_BITS:
        raise TooLarge
    return base ** int(exponent)


def whole_root(number: int, degree: int) -> int | None:
    """The whole root of a whole number, or None."""
    if number < 2:
        return number
    if degree == 2:
        root = math.isqrt(number)
    else:
        low, high = 1, 1 << (number.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**degree <= number else (low, middle - 1)
        root = low
    return root if root**degree == number else None
