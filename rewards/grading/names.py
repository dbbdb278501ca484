"""Values with a name before them: `x = 5`, `f(x) = 2x + 3`, `A = \\pi r^2 = 25\\pi`, `\\frac{7}{11} \\approx 0.636`."""

from collections.abc import Sequence
from dataclasses import dataclass

from rewards.grading.atoms import Node
from rewards.grading.scalars import variables, walk


@dataclass(frozen=True)
class Named:
    """A chain of equalities that ends in a value."""

    name: Node | None
    """What the value is called, or None."""
    values: tuple[Node, ...]
    """The forms of the value that may stand for it: the last one that is exact, and rounded ones."""
    all: tuple[Node, ...]
    """Everything that the text states as equal, without the name."""
    signs: tuple[str, ...]
    """`=` or `approx` between neighbours of `all`."""


def chain(node: Node, of_answer: bool = False) -> Named | None:
    """A tree as a value with a name or with several forms; None if it is an equation, or no relation at all.

    An answer may call its value by an expression of letters alone (`a + b = 10`): of a gold answer that is an equation.
    """
    if node[0] != "rel" or any(sign not in ("=", "approx") for sign in node[2]):
        return None
    operands, signs = list(node[1]), list(node[2])
    name = None
    called = is_name(operands[0]) and not mentions(operands[1:], operands[0])
    if of_answer and not called:
        called = is_of_letters(operands[0]) and not any(variables(part) for part in operands[1:])
    if called:
        name, operands, signs = operands[0], operands[1:], signs[1:]
    elif len(operands) == 2 and is_name(operands[1]) and not variables(operands[0]):
        name, operands, signs = operands[1], operands[:1], []
    elif any(variables(part) for part in operands):
        return None
    exact = operands[: signs.index("approx") + 1] if "approx" in signs else operands
    rounded = operands[len(exact) :]
    return Named(name, (exact[-1], *rounded), tuple(operands), tuple(signs))


def is_name(node: Node) -> bool:
    """Whether a tree is what an answer is called: a variable, f(x), AB, an angle, words, a function of one of them."""
    if node[0] in ("var", "words"):
        return True
    if node[0] == "opaque":
        return True
    if node[0] == "call":
        return all(is_name(part) for part in node[2])
    if node[0] in ("group", "ratio"):  # (p, q) = (3, 2); S : T = 7 : 32
        return all(is_name(part) for part in node[1])
    if node[0] == "mul":
        return capitals(node) or (is_call_of_name(node))
    if node[0] == "unit":
        return node[1][0] == "var"
    if node[0] == "div":  # dy/dx; AB/CD
        return all(capitals(part) or (part[0] == "mul" and part[1] == ("var", "d")) for part in node[1:])
    return False


def is_of_letters(node: Node) -> bool:
    """Whether a tree is a sum or a product of several variables or of powers of them, and has no number: `m + n`."""
    return len(variables(node)) > 1 and all(
        part[0] in ("add", "mul", "neg", "pow", "var") for part in walk(without_powers(node))
    )


def without_powers(node: Node) -> Node:
    """The tree with the base of each power by a whole number in the power's place."""
    if node[0] == "pow" and node[2][0] == "num":
        return without_powers(node[1])
    return (node[0], *(without_powers(part) if isinstance(part, tuple) else part for part in node[1:]))


def is_call_of_name(node: Node) -> bool:
    """`f^{-1}(x)`: the inverse of a letter, and one variable."""
    left, right = node[1], node[2]
    inverse = left[0] == "pow" and left[1][0] == "var" and left[2] == ("neg", ("num", 1, None))
    return right[0] == "var" and inverse


def capitals(node: Node) -> bool:
    """`AB`, `ABC`: the name of a segment, an angle or a figure."""
    if node[0] == "mul":
        return capitals(node[1]) and capitals(node[2])
    return node[0] == "var" and len(node[1]) == 1 and node[1].isupper()


def mentions(nodes: Sequence[Node], name: Node) -> bool:
    """Whether a name stands in the value that it should have."""
    if name[0] != "var":
        return False
    return any(name[1] in variables(node) for node in nodes)


def same_name(one: Node, other: Node) -> bool:
    """Whether two names may be of one thing: the same, or a function and its usual letter."""
    if one == other or "words" in (one[0], other[0]):
        return True
    functions = [
        node[0] == "opaque" or node in (("var", "y"), ("var", "f")) or is_product(node) for node in (one, other)
    ]
    return all(functions)


def is_product(node: Node) -> bool:
    return node[0] == "mul" and is_call_of_name(node)


def spelled(values: dict[str, Node]) -> bool:
    """Whether the names are words, which have no order, and no letters."""
    return all(name.startswith("('words'") for name in values)


def named(parts: Sequence[Node]) -> dict[str, Node] | None:
    """The values of a list in which each has a name of its own; None for any other list."""
    found: dict[str, Node] = {}
    for part in parts:
        if part[0] != "rel" or part[2] != ["="] or not is_name(part[1][0]):
            return None
        found[str(part[1][0])] = part[1][1]
    return found if len(found) == len(parts) else None


def is_member(node: Node) -> bool:
    """`x \\in \\{1, 3\\}`: what a name may be, which is the set."""
    return node[0] == "rel" and node[2] == ["in"] and node[1][0][0] == "var" and node[1][1][0] == "set"


def is_domain(part: Node) -> bool:
    return part[0] == "rel" and part[2] == ["in"] and part[1][1][0] == "domain" and part[1][0][0] == "var"
