"""Whether two equations or inequalities say the same: one is a multiple of the other, or solved for a letter."""

from fractions import Fraction
from typing import Any

from rewards.grading.atoms import Node
from rewards.grading.names import is_name
from rewards.grading.real_sets import MIRRORED
from rewards.grading.scalars import PLACES, imaginary, variables
from rewards.grading.values import GUARD, Evaluator, TooLarge, Undefined


def difference(node: Node) -> Node:
    """The left side minus the right one."""
    return ("add", node[1][0], ("neg", node[1][1]))


def same_equation(gold: Node, answer: Node, context: Any) -> bool:
    """Whether one equation is a multiple of the other by a number that is not zero."""
    if gold[2] == answer[2] == ["equiv", "mod"]:
        return same_congruence(gold, answer, context)
    if gold[2] != ["="] or answer[2] != ["="]:
        return False
    names = variables(gold) | variables(answer)
    if not names or variables(gold) != variables(answer):
        return False
    ratios = quotients(difference(gold), difference(answer), sorted(names), context)
    if ratios is not None and len(ratios) > 1 and ratios[0] and constant(ratios, context):
        return True
    return solved(gold, answer, context) or solved(answer, gold, context)


def same_inequality(gold: Node, answer: Node, context: Any) -> bool:
    """Whether one inequality is a positive multiple of the other, or a negative one turned round."""
    if len(gold[2]) != 1 or len(answer[2]) != 1 or gold[2][0] not in MIRRORED or answer[2][0] not in MIRRORED:
        return False
    if gold[2] == ["="] or answer[2] == ["="] or variables(gold) != variables(answer):
        return False
    ratios = quotients(difference(gold), difference(answer), sorted(variables(gold)), context)
    if ratios is None or len(ratios) < 2 or not ratios[0] or not constant(ratios, context):
        return False
    turned = ratios[0] < 0
    return gold[2][0] == (MIRRORED[answer[2][0]] if turned else answer[2][0])


def quotients(ours: Node, theirs: Node, names: list[str], context: Any) -> list[Any] | None:
    """The first tree over the second at points where both are real and not zero; None if only one is zero."""
    found = []
    for start, signs in PLACES:
        point = {name: Fraction(signs[at % 2] * (start + 37 * at), 97) for at, name in enumerate(names)}
        if context is not None:
            context.prec = 2 * GUARD
        evaluator = Evaluator(context)
        try:
            left, right = evaluator.at(ours, point), evaluator.at(theirs, point)
        except (Undefined, TooLarge, RecursionError):
            continue
        if not (isinstance(left, Fraction) and isinstance(right, Fraction)):
            left, right = evaluator.real(left), evaluator.real(right)
            if imaginary(context, left, evaluator) or imaginary(context, right, evaluator):
                continue
            left, right = context.re(left), context.re(right)
        if evaluator.is_zero(left) or evaluator.is_zero(right):
            if not (evaluator.is_zero(left) and evaluator.is_zero(right)):
                return None
            continue
        found.append(left / right)
    return found


def constant(ratios: list[Any], context: Any) -> bool:
    first = ratios[0]
    if all(isinstance(ratio, Fraction) for ratio in ratios):
        return all(ratio == first for ratio in ratios)
    return all(abs(number(ratio, context) / number(first, context) - 1) < Fraction(1, 10**30) for ratio in ratios)


def number(value: Any, context: Any) -> Any:
    return context.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def solved(gold: Node, answer: Node, context: Any) -> bool:
    """Whether `gold` is `y = f(x)` and `answer` is an equation of the first degree in y that it solves: xy = 1."""
    name, value = gold[1]
    if name[0] != "var" or not is_name(name) or name[1] in variables(value) or not variables(value):
        return False
    other = difference(answer)
    known = 0
    for start, signs in PLACES:
        names = sorted(variables(value))
        point = {one: Fraction(signs[at % 2] * (start + 37 * at), 97) for at, one in enumerate(names)}
        if context is not None:
            context.prec = 2 * GUARD
        evaluator = Evaluator(context)
        try:
            at_value = evaluator.at(value, point)
            zero = evaluator.at(other, point | {name[1]: at_value})
            three = [evaluator.at(other, point | {name[1]: Fraction(place)}) for place in (0, 1, 2)]
        except (Undefined, TooLarge, RecursionError):
            continue
        bend = three[0] - 2 * three[1] + three[2]
        if not (evaluator.is_zero(zero) and evaluator.is_zero(bend)) or evaluator.is_zero(three[0] - three[1]):
            return False
        known += 1
    return known > 2


def same_congruence(gold: Node, answer: Node, context: Any) -> bool:
    """`x \\equiv 3 \\pmod 5` and the like: one modulus, and residues that differ by a multiple of it."""
    evaluator = Evaluator(context)
    try:
        (left, ours, modulus), (right, theirs, other) = gold[1], answer[1]
        values = [evaluator.at(part, {}) for part in (ours, theirs, modulus, other)]
    except (Undefined, TooLarge, ValueError, KeyError):
        return False
    if left != right or not all(isinstance(value, Fraction) for value in values) or values[2] != values[3]:
        return False
    return bool(values[2]) and (values[0] - values[1]) % values[2] == 0
