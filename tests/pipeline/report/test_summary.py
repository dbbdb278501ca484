"""The end of a whole run: where things are, how long it took, and what to type next."""

import json

import pytest

from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER
from pipeline.runs.folder import RunFolder
from pipeline.runs.summary import print_summary
from tests.pipeline.report.run_folders import make_run, smoke_profile

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize(
    ("name", "file", "variables"),
    [
        ("smoke", "configs/smoke.yaml", "PROFILE=smoke"),
        ("another", "configs/smoke.yaml", "PROFILE=smoke RUN=another"),
        ("smoke", "my/own.yaml", "PROFILE=my/own.yaml"),
    ],
)
def test_the_end_says_the_time_and_the_next_command_for_this_run(capsys, name, file, variables):
    make_run(name, smoke_profile())
    run = RunFolder(name, "smoke", file)
    for minutes, stage in enumerate(stage for stage in LADDER if run.stage(stage.id).is_dir()):
        manifest = Manifest.read(run.stage(stage.id))
        manifest.model_copy(update={"wall_seconds": 60.0 * minutes}).write(run.stage(stage.id))
    results = run.stage("evaluate") / "results.json"
    found = json.loads(results.read_text(encoding="utf-8"))
    results.write_text(json.dumps({**found, "settings": {"sets": {"reasoning": "64 questions"}}}), encoding="utf-8")
    print_summary(smoke_profile(), run)
    printed = capsys.readouterr().out
    assert "1 h 06 min, over 12 stages" in printed
    assert f"R1:       {run.path}/general_rl/checkpoint\n" in printed
    assert f"make chat MODEL=distill/qwen {variables}\n" in printed
    assert f"make export STUDENT=qwen {variables}\n" in printed
