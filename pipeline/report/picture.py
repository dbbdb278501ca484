"""The ladder as a picture: rungs by pass@1, joined by what starts from what; the paper's own on its own scale."""

from typing import Any

from pipeline.report.ladder import MeasuredRung

WIDTH, MARGIN, TOP, HEIGHT = 1000, 40, 16, 190
"""Of one panel, in SVG units."""


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
                a, b = nodes[source.name], nodes[measured.name]
                edges.append({"kind": learns, "x1": a["x"], "y1": a["y"], "x2": b["x"], "y2": b["y"]})
    grid = [{"y": _y(share), "label": share} for share in (0, 25, 50, 75, 100)]
    return {"nodes": list(nodes.values()), "edges": edges, "grid": grid}


def _y(value: float) -> float:
    return round(TOP + HEIGHT * (1 - value / 100), 1)
