"""A scalar taken apart: its value, the unit behind it, percent, degrees."""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from rewards.grading.atoms import Node
from rewards.grading.units import Unit, read_unit

NO_UNIT = Unit()
DEGREES = Unit((("angle", 1),))


@dataclass(frozen=True)
class Quantity:
    """A number, and what stands behind it."""

    value: Node
    """With percent worked out and a word such as `million` multiplied."""
    unit: Unit = NO_UNIT
    percent: bool = False
    figure: Node = ("num", Fraction(0), None)
    """The value as it was written: of 50 % the 50."""
    angle: bool = False

    def converted(self) -> "Quantity":
        """In the dimension's own unit."""
        return replace(self, value=scaled(self.value, self.unit.factor))

    def radians(self) -> Node:
        return ("div", ("mul", self.value, ("const", "pi")), ("num", Fraction(180), None))


def quantity(node: Node) -> Quantity:
    """The scalar without its unit. Raises `Unreadable` for words behind it that are none."""
    if node[0] == "neg":
        inside = quantity(node[1])
        return replace(inside, value=("neg", inside.value), figure=("neg", inside.figure))
    if node[0] == "unit":
        inside, unit = quantity(node[1]), read_unit(node[2])
        both = Unit(
            unit.dimension or inside.unit.dimension,
            unit.factor if unit.dimension else inside.unit.factor,
            Fraction(1),
            unit.nouns | inside.unit.nouns,
        )
        value = scaled(inside.value, unit.scale)
        return Quantity(value, both, inside.percent, value, both.dimension == DEGREES.dimension)
    if node[0] == "degree":
        return Quantity(node[1], DEGREES, figure=node[1], angle=True)
    if node[0] == "percent":
        return Quantity(node, percent=True, figure=node[1])
    if node[0] == "add" and has_unit(node):
        left, right = quantity(node[1]), quantity(node[2])
        if left.unit.dimension and left.unit.dimension == right.unit.dimension:
            total = ("add", left.converted().value, right.converted().value)
            return Quantity(total, replace(left.unit, factor=Fraction(1)), figure=total, angle=left.angle)
        return Quantity(("words",))
    return Quantity(node, figure=node)


def in_several_units(parts: Sequence[Node]) -> Node | None:
    """`8 hours and 30 minutes` as a sum: a list of measures of one dimension, each less than one of the unit before."""
    if not all(part[0] == "unit" and part[1][0] == "num" for part in parts):
        return None
    measures = [quantity(part) for part in parts]
    if not measures[0].unit.dimension or any(each.unit.dimension != measures[0].unit.dimension for each in measures):
        return None
    for larger, smaller in itertools.pairwise(measures):
        if smaller.value[1] * smaller.unit.factor >= larger.unit.factor:
            return None
    return functools.reduce(lambda total, part: ("add", total, part), parts)


def has_unit(node: Node) -> bool:
    return node[0] in ("unit", "degree") or (node[0] in ("add", "neg") and any(has_unit(part) for part in node[1:]))


def scaled(node: Node, factor: Fraction) -> Node:
    """The value times a factor; a plain number stays one."""
    if factor == 1:
        return node
    if node[0] == "num":
        return ("num", node[1] * factor, node[2])
    return ("mul", node, ("num", factor, None))
