"""A stage that hands on its best checkpoint, in the report."""

import dataclasses

from pipeline.report import RunRecord
from pipeline.report.curves import stage_curves
from pipeline.report.ladder import measured_rungs
from tests.pipeline.report.run_folders import World, make_run, smoke_profile


def test_the_step_that_was_handed_on_is_marked_and_stands_for_its_rung(home):
    profile = smoke_profile()
    record = RunRecord.of_folder(
        profile, make_run("smoke", profile, upto="r1_zero", world=World(steps=6, rollouts_every=2))
    )
    stage = record.stages["r1_zero"]
    point = stage.lines("heldout.jsonl")[1]
    kept = {"kept": {"step": point["step"], "score": 0.5}}
    manifest = stage.manifest.model_copy(update={"metrics": {**stage.metrics, **kept}})
    record.stages["r1_zero"] = dataclasses.replace(stage, manifest=manifest)
    marks = [(mark["step"], mark["what"]) for mark in stage_curves([record], "r1_zero")["marks"]]
    assert (point["step"], "handed on") in marks
    [zero] = [rung for rung in measured_rungs(record, "reasoning") if rung.name == "R1-Zero"]
    assert zero.figures == point and f"step {point['step']}" in zero.source
