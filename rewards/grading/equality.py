"""Whether two answers are one, by what each of them is (the table is in `docs/answers.md`).

A list is what is written with commas, `and`, `or` or ±: its order does not count, how often a member stands in it does.
A set has members only. A group in brackets has an order. An interval, a union and an inequality are sets of numbers;
an open interval and a pair look the same, and are the same where the gold leaves it open. An equation is its solutions'
condition: any multiple of it, never one side alone unless the other is a name.
"""

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from rewards.grading.atoms import Node
from rewards.grading.equations import same_equation, same_inequality
from rewards.grading.matrices import rows_of, vector
from rewards.grading.names import Named, chain, is_domain, is_member, is_name, named, same_name, spelled
from rewards.grading.quantities import Quantity, in_several_units, quantity
from rewards.grading.readings import both_signs
from rewards.grading.real_sets import NoSet, holds, holds_where, real_set
from rewards.grading.scalars import same_scalar, variables, walk
from rewards.grading.values import TooLarge, Undefined

MAX_MEMBERS = 100
"""Members of a list that are compared in any order; a longer list is compared as written."""
SCALARS = frozenset(
    "num const var add mul div pow neg root fact call binom mod percent degree opaque unit pm".split()  # noqa: SIM905
)


class Comparison:
    """Compares trees. Without an mpmath context raises `Inexact` where fractions alone do not settle it."""

    def __init__(self, context: Any = None, percent_asked: bool = True):
        self.context, self.percent_asked = context, percent_asked

    def same(self, gold: Node, answer: Node) -> bool:
        gold, answer = prepared(gold), prepared(answer)
        if gold == answer:
            return True
        measures = [in_several_units(node[1]) if node[0] == "list" else None for node in (gold, answer)]
        if any(measures) and self.tried(measures[0] or gold, measures[1] or answer):
            return True
        left, right = chain(gold), chain(answer, of_answer=True)
        if left is not None or right is not None:
            return self.same_chains(gold, answer, left, right)
        return self.same_kind(gold, answer)

    def same_chains(self, gold: Node, answer: Node, left: Named | None, right: Named | None) -> bool:
        """Where one of them is a value with a name, or several forms of a value."""
        if right is not None and not self.consistent(right):
            return False
        if left is not None and right is not None:
            if left.name and right.name and not same_name(left.name, right.name):
                return self.whole_equations(gold, answer)
            return self.any_same(left.values, right.values) or self.whole_equations(gold, answer)
        if left is None and right is not None:
            if gold[0] == "rel":
                return self.whole_equations(gold, answer)
            return self.any_same([gold], right.values)
        if answer[0] == "rel":
            return self.whole_equations(gold, answer)
        return self.any_same(left.values, [answer])

    def any_same(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        """Whether some form of the gold is the first form of the answer, or a rounded form is a rounded one."""
        return any(self.tried(gold, answer) for gold, answer in itertools.product(golds, answers))

    def tried(self, gold: Node, answer: Node) -> bool:
        """Equality where a form without a value is not the other."""
        try:
            return self.same_kind(prepared(gold), prepared(answer))
        except (Undefined, TooLarge):
            return False

    def consistent(self, statement: Named) -> bool:
        """Whether the numbers that an answer calls equal are: `42 = 43` is nobody's answer."""
        for (one, other), sign in zip(itertools.pairwise(statement.all), statement.signs, strict=True):
            if any(part[0] not in SCALARS or variables(part) for part in (one, other)):
                continue
            try:
                if sign == "approx":
                    if not self.nearly(one, other):
                        return False
                elif not self.same_quantity(one, other):
                    return False
            except (Undefined, TooLarge):
                return False
        return True

    def nearly(self, one: Node, other: Node) -> bool:
        """Whether the second number is the first one, rounded or cut to the decimals that it is written with."""
        left, right = quantity(one), quantity(other)
        places = [tree[2] or 0 for tree in walk(right.value) if tree[0] == "num"]
        unit = Fraction(1, 10 ** max(places, default=0))
        sizes = [("call", "abs", [part], None) for part in (left.value, right.value)]
        gap = ("call", "abs", [("add", left.value, ("neg", right.value))], None)
        rounded = ("rel", [gap, ("num", unit / 2, None)], ["le"])
        cut = ("rel", [gap, ("num", unit, None)], ["<"])
        shorter = ("rel", [sizes[1], sizes[0]], ["le"])
        return holds(rounded, {}, self.context) or all(holds(one, {}, self.context) for one in (cut, shorter))

    def whole_equations(self, gold: Node, answer: Node) -> bool:
        return gold[0] == answer[0] == "rel" and same_equation(gold, answer, self.context)

    def same_kind(self, gold: Node, answer: Node) -> bool:
        if gold == answer:
            return True
        ours, theirs = kind(gold), kind(answer)
        if ours == theirs == "scalar":
            return self.same_quantity(gold, answer)
        method = getattr(self, f"_{ours}_{theirs}", None)
        if method is not None:
            return method(gold, answer)
        return self.same_real_sets(gold, answer)

    def same_quantity(self, gold: Node, answer: Node) -> bool:
        """Scalars with what stands behind them."""
        left, right = quantity(gold), quantity(answer)
        if not left.unit.fits(right.unit):
            return False
        if left.angle != right.angle:
            degrees, other = (left, right) if left.angle else (right, left)
            if not other.unit.dimension and same_scalar(degrees.radians(), other.value, self.context):
                return True
        if left.unit.dimension and right.unit.dimension:
            left, right = left.converted(), right.converted()
        if same_scalar(left.value, right.value, self.context):
            return True
        return self.same_percent(left, right)

    def same_percent(self, gold: Quantity, answer: Quantity) -> bool:
        """A figure in percent with its sign on one side only."""
        if gold.percent == answer.percent or (answer.percent and not self.percent_asked):
            return False
        if gold.unit.dimension or answer.unit.dimension:
            return False
        return same_scalar(gold.figure, answer.figure, self.context)

    def members(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        """Whether the members are the same ones, each as often, in any order."""
        if len(golds) != len(answers):
            return False
        if len(golds) > MAX_MEMBERS:
            return all(self.tried_whole(*pair) for pair in zip(golds, answers, strict=True))
        left = list(answers)
        for gold in golds:
            found = next((place for place, answer in enumerate(left) if self.tried_whole(gold, answer)), None)
            if found is None:
                return False
            del left[found]
        return True

    def tried_whole(self, gold: Node, answer: Node) -> bool:
        try:
            return self.same(gold, answer)
        except (Undefined, TooLarge):
            return False

    def in_order(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        return len(golds) == len(answers) and all(self.tried_whole(*pair) for pair in zip(golds, answers, strict=True))

    def _list_list(self, gold: Node, answer: Node) -> bool:
        ours, theirs = named(gold[1]), named(answer[1])
        if ours and theirs:
            return sorted(ours) == sorted(theirs) and all(self.tried_whole(ours[name], theirs[name]) for name in ours)
        if ours or theirs:
            values = list((ours or theirs).values())
            if spelled(ours or theirs):
                return self.members(values, answer[1]) if ours else self.members(gold[1], values)
            return self.in_order(values, answer[1]) if ours else self.in_order(gold[1], values)
        if self.members(gold[1], answer[1]):
            return True
        if all(part[0] == "group" for part in (*gold[1], *answer[1])):
            return self.members(self.distinct(gold[1]), self.distinct(answer[1]))
        return self.same_real_sets(gold, answer)

    def _list_set(self, gold: Node, answer: Node) -> bool:
        return self.sets(gold[1], answer[1])

    _set_list = _set_set = lambda self, gold, answer: self.sets(gold[1], answer[1])

    def sets(self, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        nested = [any(part[0] == "set" for part in parts) for parts in (golds, answers)]
        return nested[0] == nested[1] and self.members(self.distinct(golds), self.distinct(answers))

    def distinct(self, members: Sequence[Node]) -> list[Node]:
        kept: list[Node] = []
        for member in members[:MAX_MEMBERS]:
            if not any(self.tried_whole(one, member) for one in kept):
                kept.append(member)
        return kept + list(members[MAX_MEMBERS:])

    def _set_scalar(self, gold: Node, answer: Node) -> bool:
        return len(gold[1]) == 1 and self.same(gold[1][0], answer)

    def _scalar_set(self, gold: Node, answer: Node) -> bool:
        return len(answer[1]) == 1 and self.same(gold, answer[1][0])

    def _group_group(self, gold: Node, answer: Node) -> bool:
        if brackets(gold) != brackets(answer) and not (len(gold[1]) > 2 and {"(", "["} >= {gold[2], answer[2]}):
            return False
        return self.in_order(gold[1], answer[1])

    def _list_group(self, gold: Node, answer: Node) -> bool:
        return self.list_and_group(gold, answer, gold[1], answer[1])

    def _group_list(self, gold: Node, answer: Node) -> bool:
        return self.list_and_group(answer, gold, gold[1], answer[1])

    def list_and_group(self, members: Node, group: Node, golds: Sequence[Node], answers: Sequence[Node]) -> bool:
        """A list of named values in the order of their names; a bare list that only lost its round brackets."""
        if names := named(members[1]):
            in_names = [names[name] for name in sorted(names)]
            values = list(group[1])
            return brackets(group) == ("(", ")") and (
                self.in_order(values, in_names) if members[1] is answers else self.in_order(in_names, values)
            )
        if len(group[1]) == 2 and brackets(group) != ("(", ")"):
            return False
        return any(part[0] == "group" for part in golds) is any(part[0] == "group" for part in answers) and (
            self.in_order(golds, answers) and not any(part[0] == "rel" for part in members[1])
        )

    def _group_matrix(self, gold: Node, answer: Node) -> bool:
        if rows := rows_in_brackets(gold):
            return self._matrix_matrix(("matrix", rows), answer)
        return vector(answer[1]) is not None and self.in_order(gold[1], vector(answer[1]))

    def _matrix_group(self, gold: Node, answer: Node) -> bool:
        if rows := rows_in_brackets(answer):
            return self._matrix_matrix(gold, ("matrix", rows))
        return vector(gold[1]) is not None and self.in_order(vector(gold[1]), answer[1])

    def _matrix_matrix(self, gold: Node, answer: Node) -> bool:
        return len(gold[1]) == len(answer[1]) and all(
            self.in_order(*rows) for rows in zip(gold[1], answer[1], strict=True)
        )

    def _ratio_ratio(self, gold: Node, answer: Node) -> bool:
        """Terms in proportion; figures that are a time of the day are compared as written."""
        ours, theirs = gold[1], answer[1]
        if len(ours) != len(theirs):
            return False
        if any(term[:2] == ("num", 0) for term in (*ours, *theirs)):
            return self.in_order(ours, theirs)
        return all(
            self.tried(("mul", ours[place], theirs[0]), ("mul", theirs[place], ours[0]))
            for place in range(1, len(ours))
        )

    def _ratio_scalar(self, gold: Node, answer: Node) -> bool:
        return len(gold[1]) == 2 and self.same_quantity(("div", *gold[1]), answer)

    def _scalar_ratio(self, gold: Node, answer: Node) -> bool:
        return len(answer[1]) == 2 and self.same_quantity(gold, ("div", *answer[1]))

    def _based_based(self, gold: Node, answer: Node) -> bool:
        return (gold[1].upper(), gold[2]) == (answer[1].upper(), answer[2])

    def _rel_rel(self, gold: Node, answer: Node) -> bool:
        return (
            same_equation(gold, answer, self.context)
            or same_inequality(gold, answer, self.context)
            or (gold[2] == answer[2] and len(gold[2]) > 1 and self.in_order(gold[1], answer[1]))
            or self.same_real_sets(gold, answer)
        )

    def same_real_sets(self, gold: Node, answer: Node) -> bool:
        """Two sets of real numbers in any notation; a list of numbers is no set of them."""
        if gold[0] in ("list", "set") and answer[0] in ("list", "set") and gold[0] == answer[0] != "list":
            return False
        if not {kind(gold), kind(answer)} <= {"group", "set", "reals", "rel", "list"}:
            return False
        if {gold[0], answer[0]} <= {"set", "group"}:
            return False
        try:
            ours = real_set(gold, self.context)
        except NoSet:
            return self.condition_and_set(gold, answer)
        try:
            return ours == real_set(answer, self.context)
        except NoSet:
            return holds_where(answer, ours, self.context)

    def condition_and_set(self, gold: Node, answer: Node) -> bool:
        try:
            theirs = real_set(answer, self.context)
        except NoSet:
            return False
        return holds_where(gold, theirs, self.context)


def kind(node: Node) -> str:
    """What an answer is, for the table of comparisons."""
    if node[0] in SCALARS:
        return "matrix" if node[0] == "mul" and "matrix" in (node[1][0], node[2][0]) else "scalar"
    return "reals" if node[0] in ("union", "inter", "minus", "domain", "builder") else node[0]


def rows_in_brackets(group: Node) -> list[Sequence[Node]] | None:
    """The rows of a matrix that is written as lists in a list, `[[1, 2], [3, 4]]`; None for any other group."""
    rows = group[1]
    if all(part[0] == "group" and part[2:] == ("[", "]") == group[2:] for part in rows):
        return [row[1] for row in rows]
    return None


def brackets(group: Node) -> tuple[str, str]:
    return {"]": "("}.get(group[2], group[2]), {"[": ")"}.get(group[3], group[3])


def prepared(node: Node) -> Node:
    """The tree without what makes no difference: a list of one, domains of variables, ± written out."""
    if node[0] == "group" and len(node[1]) == 1 and brackets(node) == ("[", "]"):
        return prepared(node[1][0])
    if node[0] == "list":
        return prepared_list(node)
    if is_member(node):
        return prepared(node[1][1])
    if node[0] in ("set", "group"):
        members = [form for part in node[1] for form in both_signs(part)]
        return (node[0], members, *node[2:])
    if node[0] in ("mul", "neg", "add") and (rows := rows_of(node)):
        return ("matrix", rows)
    forms = both_signs(node)
    return forms[0] if len(forms) == 1 else ("list", forms, "or")


def prepared_list(node: Node) -> Node:
    """A list without the domains of its variables; a name before its first member is every member's."""
    parts = [part for part in node[1] if not is_domain(part)] or list(node[1])
    parts = [form for part in parts for form in both_signs(with_label(part))]
    if len(parts) == 1:
        return prepared(parts[0])
    first = parts[0]
    values = all(part[0] in SCALARS or part[0] == "group" for part in parts[1:])
    if first[0] == "rel" and first[2] == ["="] and is_name(first[1][0]) and values:
        parts[0] = first[1][1]
    names = [part[1][0] for part in parts if part[0] == "rel" and part[2] == ["="] and part[1][0][0] == "var"]
    if len(names) == len(parts) and len({name[1].split("_")[0] for name in names}) == 1:
        parts = [part[1][1] for part in parts]  # x = 2, x = 3; x_1 = 2, x_2 = 3
    return ("list", parts, node[2])


def with_label(part: Node) -> Node:
    """`Minimum: 1` as a value with a name."""
    return ("rel", part[1], ["="]) if part[0] == "ratio" and len(part[1]) == 2 and part[1][0][0] == "words" else part
