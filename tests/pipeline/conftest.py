"""The real runner over stages whose bodies are a few lines, so that its promises are tested in milliseconds."""

import importlib

import pytest

from pipeline.config.loading import load_profile
from pipeline.ladder import LADDER
from pipeline.runs.folder import RunFolder
from pipeline.steps.context import StageResult


@pytest.fixture
def ladder(tmp_path, monkeypatch):
    """A `Ladder` in an empty folder; every stage writes what `ladder.bodies[stage]` does, or one file of its own."""
    return Ladder(tmp_path, monkeypatch)


class Ladder:
    def __init__(self, folder, monkeypatch):
        self.ran: list[str] = []
        self.bodies: dict = {}
        self.overrides: list[str] = []
        monkeypatch.setattr("pipeline.runs.folder.RUNS", folder / "runs")
        for stage in LADDER:
            monkeypatch.setattr(importlib.import_module(stage.module), "run", self._body(stage.id))

    def _body(self, stage_id: str):
        def run(ctx):
            self.ran.append(stage_id)
            if stage_id in self.bodies:
                return self.bodies[stage_id](ctx)
            (ctx.folder / "checkpoint").mkdir(exist_ok=True)
            (ctx.folder / "checkpoint" / "weights").write_text(stage_id)
            (ctx.folder / "students").mkdir(exist_ok=True)
            (ctx.folder / "students" / "qwen").write_text(stage_id)
            return StageResult(outputs=["checkpoint", "students"])

        return run

    @property
    def profile(self):
        return load_profile("smoke", self.overrides).profile

    @property
    def folder(self) -> RunFolder:
        return RunFolder("test", "smoke")

    def run(self, stage: str | None = None) -> list[str]:
        """Runs and returns the stages whose bodies were called."""
        from pipeline.ladder import STAGES
        from pipeline.runs.runner import run_stages

        self.ran.clear()
        run_stages(self.profile, self.folder, STAGES[stage] if stage else None)
        return list(self.ran)

    def states(self) -> dict[str, str]:
        from pipeline.runs.runner import stage_states

        return {name: state.state for name, state in stage_states(self.profile, self.folder).items()}

    def reason(self, stage: str) -> str:
        from pipeline.runs.runner import stage_states

        return stage_states(self.profile, self.folder)[stage].reason
