"""The rungs: every checkpoint, where it comes from, what it scored, and what it cost."""

from dataclasses import dataclass
from typing import Any

from pipeline.report import paper
from pipeline.report.curves import RL_STAGES
from pipeline.report.figures import percent
from pipeline.report.records import RunRecord


@dataclass(frozen=True)
class Rung:
    """One checkpoint. `figures` are those of one held-out set (None: not measured yet), `source` says from where."""

    name: str
    stage_id: str
    made_by: str
    state: str
    reason: str
    seconds: float | None
    tokens: int | None
    figures: dict[str, Any] | None
    source: str
    paper: float | None
    """The paper's AIME 2024 pass@1 of the rung with this role, in per cent."""
    paper_name: str = ""

    @property
    def label(self) -> str:
        return percent(self.figures["pass@1"]) if self.figures else "–"


TEACHER = (
    ("base", "base_model", "pretrained", paper.BASE_AIME, "V3-Base"),
    ("R1-Zero", "r1_zero", "RL from the base", paper.STAGES["R1-Zero"][0], "R1-Zero"),
    ("Dev1", "cold_start_sft", "SFT of the base on the cold start", paper.STAGES["Dev1"][0], "R1-Dev1"),
    ("Dev2", "reasoning_rl", "RL with language consistency", paper.STAGES["Dev2"][0], "R1-Dev2"),
    ("Dev3", "sft", "SFT of the base on sampled and general rows", paper.STAGES["Dev3"][0], "R1-Dev3"),
    ("R1", "general_rl", "RL with rules and reward models", paper.STAGES["R1"][0], "R1"),
)

STARTS = {"base": "r1_zero", "Dev1": "reasoning_rl", "Dev3": "general_rl"}
"""Rung -> the RL stage that starts from it, whose held-out curve measures it at step 0."""


def main_set(run: RunRecord) -> str:
    """The held-out set that the ladder is shown on: the first that has right and wrong answers."""
    sets = run.evaluation["sets"]
    return next((name for name, settings in sets.items() if settings["metric"] == "accuracy"), next(iter(sets)))


def climb(run: RunRecord, set_name: str) -> list[Rung]:
    """Every rung, teacher first, with its figures on one held-out set.

    Before `evaluate` has finished, a rung shows what a held-out curve of the RL stages tells of it.
    """
    results = run.results()
    rungs = [_rung(run, results, set_name, *role) for role in TEACHER]
    trained_by_rl = run.rl_student
    for name in run.students:
        rungs.append(_rung(run, results, set_name, f"{name} base", "base_model", "a student before training"))
        distilled = paper.DISTILLED_STUDENT_AIME if name == trained_by_rl else None
        rungs.append(
            _rung(run, results, set_name, f"{name} distilled", "distill", "SFT on the teacher's rows", distilled,
                  paper.DISTILLED_STUDENT if distilled else "", name)
        )  # fmt: skip
    rungs.append(
        _rung(run, results, set_name, f"{trained_by_rl} RL", "student_rl", "RL with the tokens that distilling took",
              paper.RL_STUDENT_AIME, paper.RL_STUDENT)
    )  # fmt: skip
    return rungs


def _rung(run, results, set_name, name, stage_id, made_by, published=None, paper_name="", student=None) -> Rung:
    stage = run.stages[stage_id]
    figures, source = results.get(name, {}).get(set_name), "evaluate"
    if run.stages["evaluate"].state == "stale":
        source = "an earlier evaluation"
    if figures is None:
        figures, source = _on_a_curve(run, name, stage_id, set_name)
    manifest = stage.manifest
    tokens, seconds = None, manifest.wall_seconds if manifest else None
    if name.endswith(" base"):  # fetched with the teacher's
        seconds = None
    if manifest and manifest.tokens:
        tokens = manifest.tokens.get(student) if student else spent(manifest.tokens)
    return Rung(
        name=name, stage_id=stage_id, made_by=made_by, state=stage.state, reason=stage.reason,
        seconds=seconds, tokens=tokens, figures=figures, source=source,
        paper=published, paper_name=paper_name,
    )  # fmt: skip


def _on_a_curve(run: RunRecord, name: str, stage_id: str, set_name: str) -> tuple[dict | None, str]:
    """The last point of the rung's own held-out curve, or the first of the stage that starts from it."""
    after = STARTS.get(name)
    points = run.stages[after or stage_id].lines("heldout.jsonl") if after or stage_id in RL_STAGES else []
    points = [row for row in points if row["set"] == set_name and (row["step"] == 0 or not after)]
    if not points:
        return None, ""
    return points[-1], f"the held-out curve of {after or stage_id}, step {points[-1]['step']}"


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
        }
        for stage in run.stages.values()
    ]
