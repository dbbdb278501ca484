"""The ladder as a picture: rungs by pass@1, joined by what starts from what; the paper's own on its own scale."""

import math
from typing import Any

from pipeline.report.ladder import MeasuredRung

WIDTH, MARGIN, TOP, HEIGHT = 1000, 40, 16, 190
"""Of one panel, in SVG units."""
CLEAR, MOST_BOW, POINTS = 12, 144, 64
"""How near a line may come to a rung that it does not join, how far it may bend, and the points that it is tried at."""

Point = tuple[float, float]


def picture(rungs: list[MeasuredRung]) -> dict[str, Any]:
    """Two panels of {nodes, edges} on the same columns: `ours` in per cent of a held-out set, `paper` of AIME 2024."""
    ours = {r.name: tuple(100 * r.figures[key] for key in ("pass@1", "low", "high")) for r in rungs if r.figures}
    paper = {r.name: (r.paper, None, None) for r in rungs if r.paper is not None}
    return {"ours": _panel(rungs, ours), "paper": _panel(rungs, paper), "width": WIDTH, "top": TOP, "height": HEIGHT}


def _panel(rungs: list[MeasuredRung], values: dict[str, tuple]) -> dict[str, Any]:
    column = (WIDTH - MARGIN) / len(rungs)
    nodes = {}
    for number, rung in enumerate(rungs):
        value, low, high = values.get(rung.name, (None, None, None))
        nodes[rung.name] = {
            "name": rung.name,
            "words": rung.name.split(" "),
            "state": rung.state,
            "paper_name": rung.paper_name,
            "x": round(MARGIN + (number + 0.5) * column, 1),
            "y": _y(value or 0),
            "value": value,
            "low": None if low is None else _y(low),
            "high": None if high is None else _y(high),
        }
    edges = []
    for measured in rungs:
        for source, learns in ((measured.rung.start, "starts"), (measured.rung.teacher, "learns")):
            if source and source.name in values and measured.name in values:
                ends = [(nodes[each]["x"], nodes[each]["y"]) for each in (source.name, measured.name)]
                others = [(node["x"], node["y"]) for node in nodes.values() if node["value"] is not None]
                edges.append({"kind": learns, "path": _path(*ends, [each for each in others if each not in ends])})
    grid = [{"y": _y(share), "label": share} for share in (0, 25, 50, 75, 100)]
    return {"nodes": list(nodes.values()), "edges": edges, "grid": grid}


def _path(start: Point, end: Point, others: list[Point]) -> str:
    """The flattest curve between two rungs that avoids all others."""
    bows = sorted(range(-MOST_BOW, MOST_BOW + 1, 12), key=lambda bow: (abs(bow), bow))
    clear = {bow: _clearance(start, _control(start, end, bow), end, others) for bow in bows}
    bow = next((bow for bow in bows if clear[bow] >= CLEAR), max(bows, key=clear.get))
    (x1, y1), (cx, cy), (x2, y2) = start, _control(start, end, bow), end
    return f"M{x1} {y1}Q{cx} {cy} {x2} {y2}"


def _control(start: Point, end: Point, bow: int) -> Point:
    return round((start[0] + end[0]) / 2, 1), round((start[1] + end[1]) / 2 + 2 * bow, 1)


def _clearance(start: Point, control: Point, end: Point, others: list[Point]) -> float:
    """The least distance of the curve from another rung; of one that leaves the panel, none."""
    curve = [_at(start, control, end, place / POINTS) for place in range(POINTS + 1)]
    if not all(0 <= y <= TOP + HEIGHT + 8 for _, y in curve):
        return -1.0
    return min((math.dist(point, other) for point in curve for other in others), default=math.inf)


def _at(start: Point, control: Point, end: Point, t: float) -> Point:
    return tuple((1 - t) ** 2 * a + 2 * t * (1 - t) * c + t**2 * b for a, c, b in zip(start, control, end, strict=True))


def _y(value: float) -> float:
    return round(TOP + HEIGHT * (1 - value / 100), 1)
