"""Summarises a run in a few sentences at the top of its page."""

from collections.abc import Sequence

from pipeline.core.figures import duration
from pipeline.ladder import BASE, DISTILL
from pipeline.report.claim import Claim, counted
from pipeline.report.ladder import MeasuredRung
from pipeline.report.records import RunRecord

FEW_QUESTIONS = 30
"""Fewest held-out questions for a meaningful figure: with fewer, intervals are wider than 30 points at 50 %."""


def headline(run: RunRecord, rungs: Sequence[MeasuredRung], set_name: str, claims: Sequence[Claim] | None) -> list[str]:
    """Sentences: what was run and in how long, what was measured, how many effects hold."""
    return [each for each in (_made(run), _measured(run, rungs, set_name), claims and f"{counted(claims)}.") if each]


def too_small(run: RunRecord, set_name: str) -> str:
    """Why the figures of the run are not meaningful; '' if they are."""
    questions = run.evaluation["sets"][set_name]["questions"]
    if questions is None or questions >= FEW_QUESTIONS:
        return ""
    return (
        f"Measured on {questions} held-out questions, no figure of this page says anything about a model: it shows that"
        " the stages run."
    )


def _made(run: RunRecord) -> str:
    manifests = [stage.manifest for stage in run.stages.values() if stage.manifest]
    if not manifests:
        return ""
    devices = " and ".join(sorted({manifest.devices for manifest in manifests}))
    done = sum(stage.state == "done" for stage in run.stages.values())
    stages = f"{done} stages" if run.complete else f"{done} of {len(run.stages)} stages"
    return f"{stages} in {duration(sum(manifest.wall_seconds for manifest in manifests))} on {devices}, one seed."


def _measured(run: RunRecord, rungs: Sequence[MeasuredRung], set_name: str) -> str:
    known = {measured.name: measured for measured in rungs if measured.figures}
    teachers = [measured for measured in known.values() if not measured.rung.student]
    trained = [measured for measured in teachers if measured.rung.stage is not BASE]
    if len(teachers) < 2 or not trained:
        return ""
    shown = dict.fromkeys((teachers[0].name, trained[0].name, trained[-1].name))
    parts = [", ".join(f"{name} {known[name].label}" for name in shown)]
    for measured in known.values():
        start = measured.rung.start
        if measured.rung.stage is DISTILL and not measured.rung.method and start.name in known:
            parts.append(f"the student {measured.rung.student} {known[start.name].label}, distilled {measured.label}")
    questions = run.evaluation["sets"][set_name]["questions"] or "all"
    return f"Right answers to {questions} held-out questions ({set_name}), in per cent: {'; '.join(parts)}."
