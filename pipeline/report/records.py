"""A run folder as the report reads it: every stage, finished or under way, with its records."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.profile import Profile
from pipeline.core.files import read_json_lines
from pipeline.core.manifest import Manifest
from pipeline.ladder import BASE, DISTILL, EVALUATE, LADDER, REPORT, STAGES, Rung, StageDefinition, rungs
from pipeline.runs.folder import RunFolder
from pipeline.runs.runner import stage_states
from pipeline.steps.context import StageContext

REPORTED = tuple(stage for stage in LADDER if stage is not REPORT)


@dataclass(frozen=True)
class StageRecord:
    """One stage. `folder` holds what it wrote: the finished folder, else the partial one, else None."""

    definition: StageDefinition
    state: str
    reason: str
    folder: Path | None
    manifest: Manifest | None
    config: dict[str, Any]
    """The stage's section in the run, or, before it has run, in the profile (empty without one)."""

    @property
    def metrics(self) -> dict[str, Any]:
        return self.manifest.metrics if self.manifest else {}

    def lines(self, name: str) -> list[dict]:
        """The rows of a JSON lines file, none where it is not there. A last line still being written is left out."""
        path = self.folder / name if self.folder else None
        return list(read_lines(path)) if path and path.is_file() else []

    def files(self, pattern: str) -> list[Path]:
        return sorted(self.folder.glob(pattern)) if self.folder else []


@dataclass(frozen=True)
class RunRecord:
    """A run's profile and its stages (all but the report), in the ladder's order."""

    folder: RunFolder
    profile: Profile | None
    """None where only what was made is read."""
    stages: dict[str, StageRecord]

    @classmethod
    def of_stage(cls, ctx: StageContext) -> "RunRecord":
        """As the report stage sees it: all its inputs are done."""
        stages = {
            name: StageRecord(STAGES[name], "done", "", given.folder, given.manifest, given.manifest.config["stage"])
            for name, given in ctx.inputs.items()
        }
        any_stage = next(iter(ctx.inputs.values())).folder
        return cls(RunFolder(any_stage.parent.name, ctx.profile.name), ctx.profile, stages)

    @classmethod
    def of_folder(cls, profile: Profile, run: RunFolder) -> "RunRecord":
        """The current state of the folder, unfinished stages included, compared with the profile."""
        states, stages = stage_states(profile, run), {}
        for stage in REPORTED:
            state = states[stage.id]
            under_way = state.state == "partial"
            manifest = None if under_way else state.manifest
            folder = run.partial(stage.id, state.key) if under_way else run.stage(stage.id) if manifest else None
            config = manifest.config["stage"] if manifest else _section(profile, stage)
            stages[stage.id] = StageRecord(stage, state.state, state.reason, folder, manifest, config)
        return cls(run, profile, stages)

    @classmethod
    def as_made(cls, name: str) -> "RunRecord":
        """The finished stages of a run as they are, whatever its profile says now. Raises ConfigError for no run."""
        run, stages = RunFolder.existing(name), {}
        for stage in REPORTED:
            manifest = Manifest.read(run.stage(stage.id))
            folder, state = (run.stage(stage.id), "done") if manifest else (None, "missing")
            stages[stage.id] = StageRecord(
                stage, state, "", folder, manifest, manifest.config["stage"] if manifest else {}
            )
        return cls(run, None, stages)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def seed(self) -> int:
        """The seed that the stages ran with; the profile's while none has."""
        seeds = [s.manifest.config["seed"] for s in self.stages.values() if s.manifest and "seed" in s.manifest.config]
        return seeds[-1] if seeds else self.profile.seed

    @property
    def complete(self) -> bool:
        return all(stage.state == "done" for stage in self.stages.values())

    @property
    def evaluation(self) -> dict[str, Any]:
        """The settings of the `evaluate` stage."""
        return self.evaluate.config

    @property
    def evaluate(self) -> StageRecord:
        return self.stages[EVALUATE.id]

    @property
    def students(self) -> list[str]:
        return list(self.stages[BASE.id].config["students"])

    def title(self, stage_id: str) -> str:
        """The page's name for a stage: that of its checkpoint, if it gives one."""
        stage = self.stages[stage_id].definition
        if stage.trains == "one student":
            return Rung(stage, self.stages[stage_id].config["student"]).name
        return stage.rung if stage.rung and not stage.has_students else stage_id.replace("_", " ")

    @property
    def rungs(self) -> list[Rung]:
        """The checkpoints that this run measures."""
        chosen = {
            name: stage.config["student"]
            for name, stage in self.stages.items()
            if stage.definition.trains == "one student"
        }
        return rungs(self.students, chosen, self.stages[DISTILL.id].config.get("compare", {}))

    def results(self) -> dict[str, dict[str, dict[str, Any]]]:
        """rung -> held-out set -> figures, as `evaluate` found them; empty while it has not finished."""
        folder = self.evaluate.folder
        path = folder / "results.json" if folder else None
        return json.loads(path.read_text(encoding="utf-8"))["results"] if path and path.is_file() else {}


def _section(profile: Profile, stage: StageDefinition) -> dict[str, Any]:
    return getattr(profile.stages, stage.id).model_dump(mode="json")


def read_lines(path: Path) -> Iterator[dict]:
    """The rows of a JSON lines file. A last line that is still being written is left out."""
    return (row for _, row in read_json_lines(path, torn=True))
