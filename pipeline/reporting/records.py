"""A run folder as the report reads it: every stage, finished or under way, with its records."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.profile import Profile
from pipeline.context import StageContext
from pipeline.graph import STAGES, StageDefinition
from pipeline.manifest import Manifest
from pipeline.run_folder import RunFolder


@dataclass(frozen=True)
class StageRecord:
    """One stage. `folder` holds what it wrote: the finished folder, else the partial one, else None."""

    definition: StageDefinition
    state: str
    reason: str
    folder: Path | None
    manifest: Manifest | None

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
    """A run's profile and its stages, in the ladder's order."""

    name: str
    profile: Profile
    stages: dict[str, StageRecord]

    @classmethod
    def of_stage(cls, ctx: StageContext) -> "RunRecord":
        """As the report stage sees it: all its inputs are done."""
        done = {
            name: StageRecord(STAGES[name], "done", "", given.folder, given.manifest)
            for name, given in ctx.inputs.items()
        }
        run_folder = next(iter(ctx.inputs.values())).folder.parent
        return cls(run_folder.name, ctx.profile, done)

    @classmethod
    def of_folder(cls, profile: Profile, run: RunFolder) -> "RunRecord":
        """Whatever is there now of a run, however unfinished."""
        from pipeline.runner import stage_states

        found = {}
        for stage_id, state in stage_states(profile, run).items():
            if stage_id == "report":
                continue
            folder = run.stage(stage_id) if state.manifest else None
            if state.state == "partial":
                folder = run.partial(stage_id, state.key)
            manifest = None if state.state == "partial" else state.manifest
            found[stage_id] = StageRecord(state.stage, state.state, state.reason, folder, manifest)
        return cls(run.name, profile, found)

    @property
    def complete(self) -> bool:
        return all(stage.state == "done" for stage in self.stages.values())

    def results(self) -> dict[str, Any]:
        """`evaluate`'s results.json: {settings, results}; empty where evaluation has not finished."""
        folder = self.stages["evaluate"].folder
        path = folder / "results.json" if folder else None
        return json.loads(path.read_text(encoding="utf-8")) if path and path.is_file() else {}


def read_lines(path: Path) -> Iterator[dict]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n") and line.strip():
                yield json.loads(line)
