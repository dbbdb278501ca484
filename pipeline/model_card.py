"""The model card of an exported checkpoint: what it is made of, how it was measured, and what made it."""

import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.config.profile import Profile
from pipeline.graph import STAGES, needed_for
from pipeline.manifest import Manifest, hash_file
from pipeline.run_folder import RunFolder

RUNGS = {
    "r1_zero": "R1-Zero", "cold_start_sft": "Dev1", "reasoning_rl": "Dev2", "sft": "Dev3", "general_rl": "R1",
}  # fmt: skip
"""Stage -> the name that `evaluate` gives its checkpoint, for those that are no student."""


def model_card(profile: Profile, run: RunFolder, name: str, checkpoint: Path) -> str:
    """The README of an exported checkpoint. `name` is a stage or `stage/student`, or a path outside the run."""
    stage_id, _, student = name.partition("/")
    stage_id = stage_id.replace("-", "_")
    base = profile.stages.base_model.students.get(student, profile.stages.base_model.teacher)
    stage = STAGES.get(stage_id)
    before = needed_for(stage) if stage else []
    manifests = {one.id: manifest for one in before if (manifest := Manifest.read(run.stage(one.id)))}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    return environment.get_template("model_card.md.jinja").render(
        name=name,
        profile=profile,
        base=base,
        hub_base=base.rpartition("hub:")[2] if "hub:" in base else None,
        stage=stage,
        manifests=manifests,
        made_by=manifests.get(stage_id),
        figures=_figures(run, stage_id, student),
        files={file.name: hash_file(file) for file in sorted(checkpoint.glob("*.safetensors"))},
    )


def _figures(run: RunFolder, stage_id: str, student: str) -> tuple[dict, dict] | None:
    """(settings, set -> figures) of the checkpoint in the run's evaluation; None where it has not been measured."""
    path = run.stage("evaluate") / "results.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    ways = {"distill": f"{student} distilled", "base_model": f"{student} base" if student else "base"}
    rungs = [ways.get(stage_id, RUNGS.get(stage_id))]
    if stage_id == "student_rl":
        rungs = [rung for rung in found["results"] if rung.endswith(" RL")]
    return next(((found["settings"], found["results"][rung]) for rung in rungs if rung in found["results"]), None)
