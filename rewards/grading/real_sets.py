"""Sets of real numbers: intervals, unions of them, and what inequalities in one unknown say."""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rewards.grading.atoms import Node
from rewards.grading.scalars import fraction, infinity, variables
from rewards.grading.values import GUARD, Evaluator, TooLarge, Undefined

End = Fraction | float
Piece = tuple[End, bool, End, bool]
"""An interval: its lower end and whether that belongs to it, its upper end and whether that does."""
Pieces = tuple[Piece, ...]

REALS: Pieces = ((-math.inf, False, math.inf, False),)
DOMAINS: dict[str, Pieces] = {
    "R": REALS,
    "R^('sign', '+')": ((Fraction(0), False, math.inf, False),),
    "R_+": ((Fraction(0), False, math.inf, False),),
    "R^('sign', '-')": ((-math.inf, False, Fraction(0), False),),
    "R_-": ((-math.inf, False, Fraction(0), False),),
    "R^('sign', '*')": ((-math.inf, False, Fraction(0), False), (Fraction(0), False, math.inf, False)),
}
MIRRORED = {"<": ">", ">": "<", "le": "ge", "ge": "le", "ne": "ne", "=": "="}
HOLDS: dict[str, Callable[[End, End], bool]] = {
    "<": lambda one, other: one < other, ">": lambda one, other: one > other, "le": lambda one, other: one <= other,
    "ge": lambda one, other: one >= other, "ne": lambda one, other: one != other, "=": lambda one, other: one == other,
}  # fmt: skip


class NoSet(Exception):
    """The tree is no set of real numbers with ends that have a value."""


def real_set(node: Node, context: Any, pair_is_interval: bool = True) -> Pieces:
    """The set as its intervals in order, disjoint and as long as can be. Raises `NoSet`."""
    return joined(pieces(node, context, pair_is_interval))


def pieces(node: Node, context: Any, pair_is_interval: bool = True) -> list[Piece]:
    kind = node[0]
    if kind == "group" and len(node[1]) == 2:
        low, high = (end(part, context) for part in node[1])
        opening, closing = node[2] == "[", node[3] == "]"
        if opening == closing is False and node[2] == "(" and not pair_is_interval:
            raise NoSet
        if low > high or (low == high and not (opening and closing)):
            raise NoSet
        return [(low, opening and low != -math.inf, high, closing and high != math.inf)]
    if kind == "set":
        return [(value, True, value, True) for value in (end(part, context) for part in node[1])]
    if kind == "union":
        return pieces(node[1], context) + pieces(node[2], context)
    if kind == "inter":
        return intersection(pieces(node[1], context), pieces(node[2], context))
    if kind == "minus":
        return intersection(pieces(node[1], context), complement(joined(pieces(node[2], context))))
    if kind == "domain" and node[1] in DOMAINS:
        return list(DOMAINS[node[1]])
    if kind == "builder":
        return builder(node, context)
    if kind == "rel":
        return relation(node, context)
    if kind == "list" and all(part[0] == "rel" for part in node[1]) and node[2] in ("or", "and"):
        if len({name for part in node[1] for name in variables(part)}) != 1:
            raise NoSet
        found = [point(part, context) if part[2] == ["="] else pieces(part, context) for part in node[1]]
        if node[2] == "or":
            return [piece for some in found for piece in some]
        both = found[0]
        for some in found[1:]:
            both = intersection(both, some)
        return both
    raise NoSet


def point(equation: Node, context: Any) -> list[Piece]:
    """What `x = 1` says beside an inequality."""
    sides = [part for part in equation[1] if part[0] != "var"]
    if len(sides) != 1:
        raise NoSet
    value = end(sides[0], context)
    return [(value, True, value, True)]


def builder(node: Node, context: Any) -> list[Piece]:
    """`{x | conditions}`: all of the conditions, unless `or` joins them."""
    _, element, conditions, joiner = node
    found = list(REALS) if element[0] == "var" else pieces(element, context)
    if joiner == "or":
        return [piece for condition in conditions for piece in pieces(condition, context)]
    for condition in conditions:
        found = intersection(found, pieces(condition, context))
    return found


def relation(node: Node, context: Any) -> list[Piece]:
    """A chain of comparisons of one unknown with numbers."""
    _, operands, signs = node
    names = [place for place, part in enumerate(operands) if part[0] in ("var", "opaque")]
    if signs == ["in"] and names == [0]:
        return pieces(operands[1], context)
    if len(names) != 1 or any(sign not in MIRRORED for sign in signs) or signs == ["="]:
        raise NoSet
    found, place = list(REALS), names[0]
    for other, sign in ((place + 1, signs[place] if place < len(signs) else ""), (place - 1, "")):
        if 0 <= other < len(operands):
            sign = sign or MIRRORED[signs[other]]
            found = intersection(found, half_line(sign, end(operands[other], context)))
    if len(operands) > 3:
        raise NoSet
    return found


def half_line(sign: str, bound: End) -> list[Piece]:
    below, above = (-math.inf, False, bound, sign == "le"), (bound, sign == "ge", math.inf, False)
    if sign == "ne":
        return [(-math.inf, False, bound, False), (bound, False, math.inf, False)]
    return [below] if sign in ("<", "le") else [above] if sign in (">", "ge") else [(bound, True, bound, True)]


def end(node: Node, context: Any) -> End:
    """The real value of one end, to forty digits where it is no fraction."""
    if infinite := infinity(node):
        return infinite * math.inf
    if variables(node):
        raise NoSet
    try:
        if context is not None:
            context.prec = 2 * GUARD
        value = Evaluator(context).at(node, {})
    except (Undefined, TooLarge, RecursionError):
        raise NoSet from None
    if isinstance(value, Fraction):
        return value
    if context.mag(context.im(value)) > -GUARD if context.im(value) else False:
        raise NoSet
    return fraction(value, context)


def joined(some: list[Piece]) -> Pieces:
    """The intervals in order; those that touch or overlap made one."""
    result: list[Piece] = []
    for low, low_in, high, high_in in sorted(some, key=lambda piece: (piece[0], not piece[1])):
        if result:
            last_low, last_low_in, last_high, last_high_in = result[-1]
            if low < last_high or (low == last_high and (low_in or last_high_in)):
                if high > last_high or (high == last_high and high_in):
                    result[-1] = (last_low, last_low_in, high, high_in)
                continue
        result.append((low, low_in, high, high_in))
    return tuple(result)


def intersection(one: list[Piece], other: list[Piece]) -> list[Piece]:
    found = []
    for a in one:
        for b in other:
            low, low_in = max((a[0], not a[1]), (b[0], not b[1]))
            high, high_in = min((a[2], a[3]), (b[2], b[3]))
            if low < high or (low == high and not low_in and high_in):
                found.append((low, not low_in, high, high_in))
    return found


def complement(some: Pieces) -> list[Piece]:
    found, low, low_in = [], -math.inf, False
    for piece_low, piece_low_in, high, high_in in some:
        if low < piece_low or (low == piece_low and low_in and not piece_low_in):
            found.append((low, low_in, piece_low, not piece_low_in and piece_low != -math.inf))
        low, low_in = high, not high_in
    if low < math.inf:
        found.append((low, low_in, math.inf, False))
    return found


def holds_where(condition: Node, some: Pieces, context: Any) -> bool:
    """Whether an inequality in one unknown is true exactly inside a set, as far as many points tell."""
    names = variables(condition)
    if len(names) != 1 or condition[0] != "rel" or any(sign not in HOLDS for sign in condition[2]):
        return False
    ends = {bound for piece in some for bound in (piece[0], piece[2]) if not math.isinf(bound)}
    near = Fraction(1, 10**6)
    probes = {bound + step for bound in ends for step in (-1, -near, near, 1)}
    probes |= {bound for bound in ends if bound.denominator < 10**12}  # an irrational end is not known exactly
    probes |= {Fraction(number * 37 + 5, 91) for number in range(-120, 121, 3)} | {Fraction(-997), Fraction(1013)}
    known = 0
    for probe in probes:
        try:
            true = holds(condition, {next(iter(names)): probe}, context)
        except (Undefined, TooLarge, RecursionError):
            continue
        known += 1
        if true != any(contains(piece, probe) for piece in some):
            return False
    return known > len(probes) // 2


def contains(piece: Piece, number: Fraction) -> bool:
    low, low_in, high, high_in = piece
    return (low < number or (low_in and low == number)) and (number < high or (high_in and number == high))


def holds(condition: Node, point: dict[str, Fraction], context: Any) -> bool:
    if context is not None:
        context.prec = 2 * GUARD
    evaluator = Evaluator(context)
    values = []
    for part in condition[1]:
        value = evaluator.at(part, point)
        if not isinstance(value, Fraction):
            if context.im(value):
                raise Undefined("not real")
            value = fraction(value, context)
        values.append(value)
    return all(HOLDS[sign](values[place], values[place + 1]) for place, sign in enumerate(condition[2]))
