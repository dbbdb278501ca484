"""The rungs: every checkpoint, where it comes from, what it scored, and what it cost."""

from dataclasses import dataclass
from typing import Any

from pipeline.core.figures import percent
from pipeline.ladder import STUDENT_RL, Rung
from pipeline.report import paper
from pipeline.report.records import RunRecord

METHODS = {
    "on_policy": "samples of the student's own, of which the teacher gives every token's probability",
    "sft_then_on_policy": "SFT on the teacher's rows, then samples of the student's own, taught token by token",
}
"""What ways to distil are, beside SFT, which the stage's summary says."""


@dataclass(frozen=True)
class MeasuredRung:
    """A rung as a run has it. `figures` are those of one held-out set (None: not measured yet)."""

    rung: Rung
    state: str
    reason: str
    seconds: float | None
    tokens: int | None
    figures: dict[str, Any] | None
    source: str
    """Where the figures come from ('': the evaluation of this checkpoint)."""
    paper: float | None
    """The paper's AIME 2024 pass@1 of the rung with this role, in per cent."""
    paper_name: str
    method: str = ""
    """How a student was distilled; '' for rungs of other stages."""

    @property
    def name(self) -> str:
        return self.rung.name

    @property
    def stage_id(self) -> str:
        return self.rung.stage.id

    @property
    def made_by(self) -> str:
        if self.rung.stage.kind == "base":
            return "a student before training" if self.rung.student else "pretrained"
        return METHODS.get(self.method, self.rung.stage.summary)

    @property
    def label(self) -> str:
        return percent(self.figures["pass@1"]) if self.figures else "–"


def main_set(run: RunRecord) -> str:
    """The held-out set that the ladder is shown on: the first that has right and wrong answers."""
    sets = run.evaluation["sets"]
    return next((name for name, settings in sets.items() if settings["metric"] == "accuracy"), next(iter(sets)))


def measured_rungs(run: RunRecord, set_name: str) -> list[MeasuredRung]:
    """Every rung with its figures on one held-out set: the teacher's, then each student's, the one that RL trains last.

    Before `evaluate` has finished, a rung shows its figures from the held-out curves of the RL stages.
    """
    results = run.results()
    return [_measured(run, results, set_name, rung) for rung in sorted(run.rungs, key=lambda rung: _place(run, rung))]


def _place(run: RunRecord, rung: Rung) -> tuple[int, int]:
    """Sort key of a rung; equal ones stay in the order of the ladder."""
    if not rung.student:
        return 0, 0
    return (2, 0) if rung.stage.trains == "one student" else (1, run.students.index(rung.student))


def _measured(run: RunRecord, results: dict, set_name: str, rung: Rung) -> MeasuredRung:
    stage = run.stages[rung.stage.id]
    figures, source = results.get(rung.name, {}).get(set_name), ""
    if run.evaluate.state == "stale":
        source = "an earlier evaluation"
    if figures is None:
        figures, source = _on_a_curve(run, rung, set_name)
    manifest = stage.manifest
    paper_name, published = _in_the_paper(run, rung)
    return MeasuredRung(
        rung=rung, state=stage.state, reason=stage.reason,
        seconds=manifest.wall_seconds if manifest and rung.stage.kind != "base" else None,
        tokens=training_tokens(run, rung), figures=figures, source=source, paper=published, paper_name=paper_name,
        method=rung.method or stage.config.get("method", ""),
    )  # fmt: skip


def _in_the_paper(run: RunRecord, rung: Rung) -> tuple[str, float | None]:
    """(what the paper calls the rung of this role, its AIME 2024 pass@1). Of the students one has a counterpart: that
    on which distillation is compared with RL."""
    if not rung.student:
        return paper.AIME.get(rung.name, ("", None))
    if rung.method:
        return "", None
    compared = any(other.student == rung.student for other in run.rungs if other.stage is STUDENT_RL)
    return paper.STUDENT_AIME.get(rung.stage.rung, ("", None)) if compared else ("", None)


def _on_a_curve(run: RunRecord, rung: Rung, set_name: str) -> tuple[dict | None, str]:
    """The point of the rung's own held-out curve whose weights it has, which is the last one unless another was chosen,
    or, where RL did not make it, the first point of an RL stage that starts from it."""
    trained = [other for other in run.rungs if other.stage.kind == "rl"]
    for measured_by in [rung] if rung in trained else [other for other in trained if other.start == rung]:
        points = [row for row in run.stages[measured_by.stage.id].lines("heldout.jsonl") if row["set"] == set_name]
        kept = run.stages[measured_by.stage.id].metrics.get("kept")
        if measured_by != rung or kept:
            step = kept["step"] if measured_by == rung else 0
            points = [row for row in points if row["step"] == step]
        if points:
            return points[-1], f"the held-out curve of {measured_by.stage.id}, step {points[-1]['step']}"
    return None, ""


def training_tokens(run: RunRecord, rung: Rung) -> int | None:
    """Tokens that the rung's model read or wrote in its stage; None before that has finished, and of a base."""
    manifest = run.stages[rung.stage.id].manifest
    if not manifest or not manifest.tokens:
        return None
    return manifest.tokens.get(rung.output) if rung.stage.trains == "students" else spent(manifest.tokens)


def spent(tokens: dict[str, int]) -> int:
    """Tokens that a stage's model read or wrote: RL counts prompts and completions as `seen`."""
    return tokens["seen"] if "seen" in tokens else sum(tokens.values())


def costs(run: RunRecord) -> list[dict[str, Any]]:
    """Time, memory and tokens of every stage."""
    return [
        {
            "id": stage.definition.id,
            "paper_name": stage.definition.paper_name,
            "summary": stage.definition.summary,
            "state": stage.state,
            "reason": stage.reason,
            "seconds": stage.manifest.wall_seconds if stage.manifest else None,
            "tokens": spent(stage.manifest.tokens) if stage.manifest and stage.manifest.tokens else None,
            "peak": stage.manifest.peak_memory_bytes if stage.manifest else None,
            "attempts": stage.manifest.attempts if stage.manifest else 1,
        }
        for stage in run.stages.values()
    ]
