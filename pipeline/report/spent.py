"""What the trainings of a student took in seconds, and how good it was at a time that they have in common."""

from pipeline.ladder import DISTILL, Rung
from pipeline.report.records import RunRecord

HELDOUT, METRICS = "heldout.jsonl", "metrics.jsonl"


def training_seconds(run: RunRecord, rung: Rung) -> float | None:
    """Of the optimizer steps that made the rung, sampling and scoring included, evaluation and checkpoints not. None
    where that was not noted."""
    stage = run.stages[rung.stage.id]
    if rung.stage is DISTILL:
        return stage.metrics.get(rung.output, {}).get("seconds") or None
    return sum(_steps(run, rung).values()) or None


def rung_at(run: RunRecord, rung: Rung, set_name: str, seconds: float) -> float | None:
    """pass@1 on a held-out set once the rung's training had taken `seconds`: that of the rung itself where this is all
    that it took, else of the last point by then of its held-out curve; None where it has none."""
    took = training_seconds(run, rung)
    if took is None:
        return None
    if took <= seconds:
        return run.results()[rung.name][set_name]["pass@1"]
    steps = _steps(run, rung)
    before = took - sum(steps.values())  # SFT that came first
    curve = [row for row in run.stages[rung.stage.id].lines(f"{_folder(rung)}{HELDOUT}") if row["set"] == set_name]
    by_then = [
        row for row in curve if before + sum(spent for step, spent in steps.items() if step <= row["step"]) <= seconds
    ]
    return by_then[-1]["pass@1"] if by_then else None


def _steps(run: RunRecord, rung: Rung) -> dict[int, float]:
    """Step -> its seconds, of a training on samples."""
    rows = run.stages[rung.stage.id].lines(f"{_folder(rung)}{METRICS}")
    return {row["step"]: row.get("seconds_step", 0.0) for row in rows}


def _folder(rung: Rung) -> str:
    """Of the records of the rung's training, in its stage's folder."""
    return rung.checkpoint.removesuffix("checkpoint")
