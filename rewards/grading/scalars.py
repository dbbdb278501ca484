"""Whether two formulas have one value: exactly, or at points of both signs where they have variables.

Two formulas that agree to more than forty digits at several unrelated points are equal but for a chance of nothing,
and it takes no simplification, which is where algebra systems hang. A rounded decimal counts for a value that no
decimal can write (`number_words.close`).
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from rewards.grading.atoms import Node
from rewards.grading.number_words import close, is_rounding
from rewards.grading.values import GUARD, MAX_PRECISION, Evaluator, Inexact, TooLarge, Undefined

PLACES = (
    (61, (1, 1)), (211, (1, 1)), (163, (1, -1)), (89, (-1, 1)), (233, (-1, -1)), (1213, (1, 1)), (1361, (-1, -1)),
    (15277, (1, 1)), (15511, (-1, -1)),
)  # fmt: skip
"""Numerators over 97 of the first variable at each point, and the signs of the variables in turn."""
MORE_PLACES = tuple((start, (1, 1)) for start in (11, 29, 97, 194, 291, 388))
"""Points for what has no value at the others: numbers below one, and whole ones."""
ROUNDED = Fraction(1, 10**6)
"""How far a formula with a decimal of six or more places may be off, relatively."""
START_BITS = 260


def same_scalar(gold: Node, answer: Node, context: Any = None) -> bool:
    """Whether two scalars are equal. Without an mpmath context raises `Inexact` where fractions do not settle it.

    Raises `Undefined` or `TooLarge` where the gold has no value to compare with.
    """
    if gold == answer:
        return True
    infinite = infinity(gold), infinity(answer)
    if any(infinite):
        return infinite[0] == infinite[1]
    return any(
        agree(gold, answer, context, natural) for natural in ((True, False) if has_log(gold, answer) else (True,))
    )


def infinity(node: Node) -> int:
    """1 or -1 for an infinite one, else 0."""
    if node == ("const", "infty"):
        return 1
    if node[0] == "neg":
        return -infinity(node[1])
    return infinity(node[2]) if node[0] == "add" and node[1][0] == "num" else 0


def agree(gold: Node, answer: Node, context: Any, natural_log: bool) -> bool:
    names = sorted(variables(gold) | variables(answer))
    real = not (has(gold, ("const", "i")) or has(answer, ("const", "i")))
    compared = 0
    for place, point in enumerate(points(names)):
        if place >= len(PLACES) and compared > 2:
            break
        try:
            verdict = agree_at(gold, answer, point, context, natural_log, real and bool(names))
        except (Undefined, TooLarge, RecursionError):
            if not names:
                raise
            continue
        if verdict is False:
            return False
        compared += verdict is True
    if compared < (2 if names else 1):
        raise Undefined("no value at any point")
    return True


def points(names: list[str]) -> Iterator[dict[str, Fraction]]:
    for start, signs in PLACES if names else PLACES[:1]:
        yield {name: Fraction(signs[place % 2] * (start + 37 * place), 97) for place, name in enumerate(names)}
    for start, _ in MORE_PLACES if names else ():
        apart = 97 if start % 97 == 0 else 37
        yield {name: Fraction(start + apart * place, 97) for place, name in enumerate(names)}


def agree_at(
    gold: Node, answer: Node, point: dict[str, Fraction], context: Any, natural_log: bool, real: bool
) -> bool | None:
    """Whether the values agree at one point; None where one of them is not real and both should be."""
    precision = START_BITS
    while True:
        if context is not None:
            context.prec = precision
        evaluator = Evaluator(context, natural_log)
        ours = evaluator.at(gold, point)
        theirs = value_or_none(evaluator, answer, point)
        if theirs is None:
            return False
        if isinstance(ours, Fraction) and isinstance(theirs, Fraction):
            return ours == theirs or rounds(gold, answer, ours, theirs)
        needed = GUARD + evaluator.largest - evaluator.smallest
        if needed <= precision:
            break
        if needed > MAX_PRECISION:
            raise TooLarge
        precision = needed
    ours, theirs = evaluator.real(ours), evaluator.real(theirs)
    if real and (imaginary(context, ours, evaluator) or imaginary(context, theirs, evaluator)):
        return None
    difference = abs(ours - theirs)
    if not difference or context.mag(difference) < evaluator.largest - precision + GUARD // 4:
        return True
    return rounds_inexactly(gold, answer, ours, theirs, context)


def value_or_none(evaluator: Evaluator, answer: Node, point: dict[str, Fraction]) -> Any:
    """The answer's value; None where it has none at all, for whatever the variables are."""
    try:
        return evaluator.at(answer, point)
    except (Undefined, TooLarge, RecursionError):
        if point:
            raise
        return None


def imaginary(context: Any, value: Any, evaluator: Evaluator) -> bool:
    part = context.im(value)
    return bool(part) and context.mag(part) > evaluator.largest - context.prec + GUARD // 4


def decimals_of(node: Node) -> int | None:
    """Decimals of a number that was written with a point, sign apart; None for anything else."""
    if node[0] in ("neg", "percent"):
        inside = decimals_of(node[1])
        return inside if inside is None or node[0] == "neg" else inside + 2
    return node[2] if node[0] == "num" else None


def rounds(gold: Node, answer: Node, ours: Fraction, theirs: Fraction) -> bool:
    """Whether one is the other, rounded as far as a decimal goes."""
    plain = all(node[0] in ("num", "neg", "div", "percent") for node in (gold, answer))
    if plain:
        return close(ours, decimals_of(gold), theirs, decimals_of(answer))
    return most_decimals(gold, answer) >= 6 and abs(ours - theirs) <= ROUNDED * abs(ours)


def rounds_inexactly(gold: Node, answer: Node, ours: Any, theirs: Any, context: Any) -> bool:
    places = decimals_of(answer), decimals_of(gold)
    if (places[0] or places[1]) and not (context.im(ours) or context.im(theirs)):
        exact, rounded = (ours, theirs) if places[0] else (theirs, ours)
        return is_rounding(fraction(exact, context), fraction(rounded, context), places[0] or places[1])
    return most_decimals(gold, answer) >= 6 and abs(ours - theirs) <= abs(ours) / 10**6


def fraction(value: Any, context: Any) -> Fraction:
    """A real number of mpmath to as many places as a decimal is ever compared at."""
    scale = 10**40
    return Fraction(int(context.nint(context.re(value) * scale)), scale)


def walk(node: Any) -> Iterator[Node]:
    """Every tree in a tree, without recursion."""
    waiting = [node]
    while waiting:
        tree = waiting.pop()
        if isinstance(tree, tuple) and tree and isinstance(tree[0], str):
            yield tree
        if isinstance(tree, tuple | list):
            waiting += [part for part in tree if isinstance(part, tuple | list)]


def variables(node: Node) -> set[str]:
    return {tree[1] for tree in walk(node) if tree[0] == "var"}


def has(node: Node, part: Node) -> bool:
    return any(tree == part for tree in walk(node))


def has_log(*nodes: Node) -> bool:
    return any(tree[0] == "call" and tree[1] == "log" and tree[3] is None for node in nodes for tree in walk(node))


def most_decimals(*nodes: Node) -> int:
    return max((tree[2] or 0 for node in nodes for tree in walk(node) if tree[0] == "num"), default=0)


__all__ = ["Inexact", "TooLarge", "Undefined", "same_scalar", "variables", "walk"]
