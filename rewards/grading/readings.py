"""Other readings of two answers that mean the same: names that are only placeholders, signs that vary on their own."""

import itertools
from collections.abc import Iterator
from typing import Any

from rewards.grading.atoms import Node
from rewards.grading.scalars import has, variables, walk

WHOLE_NUMBERS = frozenset("kmnl")
"""Letters for any whole number in a family of angles."""
MOST_SIGNS = 4


def readings(gold: Node, answer: Node) -> Iterator[tuple[Node, Node]]:
    """The two as they are, then as they may be meant as well."""
    renamed = with_names_of(gold, answer)
    yield gold, renamed
    ours, theirs = signed(gold), signed(renamed)
    if len(ours) + len(theirs) > 2:
        yield from itertools.product(ours, theirs)


def with_names_of(gold: Node, answer: Node) -> Node:
    """The answer with the gold's name for the argument of a function that both define (f(n) = 2n, f(x) = 2x), and for
    the whole number in a family of angles (kπ, nπ)."""
    pairs = [(arguments(gold), arguments(answer))]
    if all(has(node, ("const", "pi")) or any(tree[0] == "degree" for tree in walk(node)) for node in (gold, answer)):
        pairs.append((variables(gold) & WHOLE_NUMBERS, variables(answer) & WHOLE_NUMBERS))
    for ours, theirs in pairs:
        if len(ours) == len(theirs) == 1 and ours != theirs:
            [name], [other] = ours, theirs
            if name not in variables(answer) and other not in variables(gold):
                return replaced(answer, ("var", other), ("var", name))
    return answer


def arguments(node: Node) -> set[str]:
    """The letters that a definition's functions are of: x of f(x) = 2x."""
    sides = [tree[1][0] for tree in walk(node) if tree[0] == "rel" and tree[2] == ["="]]
    called = [tree for side in sides for tree in walk(side) if tree[0] == "opaque"]
    return {tree[2][0][1] for tree in called if len(tree[2]) == 1 and tree[2][0][0] == "var"}


def replaced(node: Any, one: Node, other: Node) -> Any:
    if node == one:
        return other
    if isinstance(node, list):
        return [replaced(part, one, other) for part in node]
    return tuple(replaced(part, one, other) for part in node) if isinstance(node, tuple) else node


def signed(node: Node) -> list[Node]:
    """What a group with ± in several places may stand for: signs that go together, or each on its own."""
    if node[0] != "group":
        return [node]
    places = [place for place, part in enumerate(node[1]) if part[0] == "pm" and part[1] == ("num", 0, None)]
    if not 1 < len(places) <= MOST_SIGNS:
        return [node]
    together = [(1,) * len(places), (-1,) * len(places)]
    found = []
    for choices in (together, list(itertools.product((1, -1), repeat=len(places)))):
        groups = [list(node[1]) for _ in choices]
        for members, signs in zip(groups, choices, strict=True):
            for place, sign in zip(places, signs, strict=True):
                members[place] = members[place][2] if sign > 0 else ("neg", members[place][2])
        found.append(("list", [("group", members, *node[2:]) for members in groups], ","))
    return found


def both_signs(node: Node) -> list[Node]:
    """The tree once with each ± as plus and once as minus, ∓ the other way round; itself where there is none."""
    if not any(tree[0] == "pm" for tree in walk(node)):
        return [node]
    return [with_sign(node, 1), with_sign(node, -1)]


def with_sign(node: Any, sign: int) -> Any:
    if isinstance(node, list):
        return [with_sign(part, sign) for part in node]
    if not isinstance(node, tuple):
        return node
    if node and node[0] == "pm":
        left, right = with_sign(node[1], sign), with_sign(node[2], sign)
        right = right if node[3] * sign > 0 else ("neg", right)
        return right if left == ("num", 0, None) else ("add", left, right)
    return tuple(with_sign(part, sign) for part in node)
