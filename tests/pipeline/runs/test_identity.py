"""What a stage's result depends on: a run that was finished before must not become stale by a change of the code.

`finished_smoke.json` holds the manifests of a run of the profile `smoke`, without records and metrics.
"""

import json
from pathlib import Path

import pytest

from pipeline.config.loading import load_profile
from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER
from pipeline.runs.folder import RunFolder
from pipeline.runs.runner import stage_states

FINISHED = json.loads(Path(__file__).with_name("finished_smoke.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunFolder:
    """The finished run; its outputs are there, but empty."""
    monkeypatch.setattr("pipeline.runs.folder.RUNS", tmp_path)
    run = RunFolder("smoke", "smoke")
    for data in FINISHED:
        manifest = Manifest.model_validate(data)
        for name in manifest.outputs:
            path = run.stage(manifest.stage) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        manifest.write(run.stage(manifest.stage))
    return run


def test_a_run_made_before_stays_done(run):
    """Where this fails, every finished run that reads what changed would be made again."""
    states = stage_states(load_profile("smoke").profile, run)
    assert {name: (state.state, state.reason) for name, state in states.items()} == {
        stage.id: ("done", "") for stage in LADDER
    }


def test_its_manifests_are_whole_and_tell_a_changed_setting(run):
    assert [data["stage"] for data in FINISHED] == [stage.id for stage in LADDER]
    states = stage_states(load_profile("smoke", ["stages.sft.sft.epochs=5"]).profile, run)
    assert states["sft"].reason == "changed: stage.sft.epochs (2 -> 5)"
    assert states["rejection_sampling"].state == "done"
