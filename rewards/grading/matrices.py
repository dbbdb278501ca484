"""Matrices: sums, multiples and products of them worked out entry by entry."""

from collections.abc import Sequence

from rewards.grading.atoms import Node

Rows = list[list[Node]]
MOST_ENTRIES = 64


def rows_of(node: Node) -> Rows | None:
    """The rows of a matrix, or of a sum, a multiple or a product of matrices; None for anything else."""
    if node[0] == "matrix":
        return [list(row) for row in node[1]]
    if node[0] == "neg" and (rows := rows_of(node[1])):
        return [[("neg", entry) for entry in row] for row in rows]
    if node[0] not in ("add", "mul"):
        return None
    left, right = rows_of(node[1]), rows_of(node[2])
    if node[0] == "add":
        return total(left, right) if left and right else None
    if left and right:
        return product(left, right)
    if right:
        return [[("mul", node[1], entry) for entry in row] for row in right]
    return None


def total(left: Rows, right: Rows) -> Rows | None:
    if [len(row) for row in left] != [len(row) for row in right]:
        return None
    return [[("add", *pair) for pair in zip(*rows, strict=True)] for rows in zip(left, right, strict=True)]


def product(left: Rows, right: Rows) -> Rows | None:
    if any(len(row) != len(right) for row in left) or len(left) * len(right) * len(right[0]) > MOST_ENTRIES:
        return None
    return [[dot(row, [other[place] for other in right]) for place in range(len(right[0]))] for row in left]


def dot(row: Sequence[Node], column: Sequence[Node]) -> Node:
    terms = [("mul", *pair) for pair in zip(row, column, strict=True)]
    summed = terms[0]
    for term in terms[1:]:
        summed = ("add", summed, term)
    return summed


def vector(rows: Sequence[Sequence[Node]]) -> list[Node] | None:
    """The members of a matrix of one column or one row."""
    if all(len(row) == 1 for row in rows):
        return [row[0] for row in rows]
    return list(rows[0]) if len(rows) == 1 else None
