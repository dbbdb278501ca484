"""Puts the sections together into one file."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.manifest import write_durably
from pipeline.reporting import figures, ladder
from pipeline.reporting.curves import RL_STAGES, stage_curves
from pipeline.reporting.funnels import DATA_STAGES, funnel
from pipeline.reporting.records import RunRecord

HERE = Path(__file__).parent


def write_report(run: RunRecord, path: Path, overlaid: list[RunRecord] | None = None) -> None:
    """Writes the report about `run` to `path`, whole or not at all. `overlaid` runs add their curves to its own."""
    runs = [run, *(overlaid or [])]
    set_name = ladder.main_set(run)
    curves = {stage_id: stage_curves(runs, stage_id) for stage_id in RL_STAGES}
    html = render(
        "report.html",
        run=run,
        runs=runs,
        set_name=set_name,
        evaluation=run.profile.stages.evaluate,
        rungs=ladder.climb(run, set_name),
        costs=ladder.costs(run),
        curves={stage_id: found for stage_id, found in curves.items() if found},
        funnels={stage_id: funnel(run, stage_id) for stage_id in DATA_STAGES},
    )
    write_durably(path, html)


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template + ".jinja").render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": figures.percent,
        "duration": figures.duration,
        "amount": figures.amount,
        "size": figures.size,
        "embedded": embedded,
    }
    environment.globals["asset"] = _asset
    return environment


def embedded(value: Any) -> Markup:
    """JSON that can stand inside a script element, whatever strings it holds."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate({ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}))


def _asset(name: str) -> Markup:
    """A script or a style sheet of ours, as it is."""
    return Markup((HERE / name).read_text(encoding="utf-8"))
