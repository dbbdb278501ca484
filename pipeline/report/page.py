"""Puts the sections together into one file."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from pipeline.core import figures
from pipeline.core.files import write_durably
from pipeline.report import ladder, tables
from pipeline.report.audit import in_words, read_audit
from pipeline.report.claim import counted
from pipeline.report.claims import verdicts
from pipeline.report.curves import RL_STAGES, stage_curves
from pipeline.report.funnels import DATA_STAGES, funnel, question_funnels
from pipeline.report.headline import headline, too_small
from pipeline.report.picture import picture
from pipeline.report.provenance import provenance
from pipeline.report.records import RunRecord
from pipeline.report.viewer import viewer_data
from pipeline.steps.evaluation import REFLECTION

HERE = Path(__file__).parent


def write_report(run: RunRecord, path: Path, overlaid: list[RunRecord] | None = None) -> None:
    """Writes the report about `run` to `path`, whole or not at all. `overlaid` runs add their curves to its own."""
    set_name = ladder.main_set(run)
    rungs, claims = ladder.measured_rungs(run, set_name), verdicts(run)
    html = render(
        "report.html",
        run=run,
        set_name=set_name,
        settings=tables.conditions(run),
        rungs=rungs,
        picture=picture(rungs),
        stages_table=tables.stages_table(run),
        students_table=tables.students_table(run),
        distillation_table=tables.distillation_table(run),
        claims=claims,
        headline=headline(run, rungs, set_name, claims),
        too_small=too_small(run, set_name),
        runs=[run, *(overlaid or [])],
        curves=all_curves([run, *(overlaid or [])]),
        viewer=viewer_data(run),
        reflection=REFLECTION.pattern,
        funnels={stage_id: funnel(run, stage_id) for stage_id in DATA_STAGES},
        question_funnels=question_funnels(run),
        costs=ladder.costs(run),
        provenance=provenance(run),
        audit=read_audit(run.folder.path),
    )
    write_durably(path, html)


def all_curves(runs: list[RunRecord]) -> dict[str, Any]:
    """RL stage -> its charts, for the stages that have begun in one of the runs."""
    found = {stage_id: stage_curves(runs, stage_id) for stage_id in RL_STAGES}
    return {stage_id: curves for stage_id, curves in found.items() if curves}


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
        "rate": in_words,
        "counted": counted,
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
