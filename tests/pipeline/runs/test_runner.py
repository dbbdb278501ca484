"""Skip, stale, partial, atomic completion, locks: what the runner promises."""

import json
import os
import shutil
from collections import Counter

import pytest

from pipeline.core.errors import ConfigError, RunError
from pipeline.core.manifest import Manifest
from pipeline.ladder import LADDER
from pipeline.runs.folder import RunFolder
from pipeline.runs.identity import resolved_config
from pipeline.runs.runner import changed_keys, stage_states
from pipeline.runs.summary import under_way
from pipeline.steps.context import StageResult

ALL = [stage.id for stage in LADDER]


def test_all_runs_every_stage_in_order(ladder):
    assert ladder.run() == ALL
    assert set(ladder.states().values()) == {"done"}


def test_a_finished_ladder_is_skipped(ladder):
    ladder.run()
    assert ladder.run() == []


def test_a_stage_runs_only_what_it_hangs_on(ladder):
    assert ladder.run("cold_start_sft") == ["base_model", "r1_zero", "cold_start_data", "cold_start_sft"]


def test_a_changed_setting_makes_its_stage_stale_and_says_what_changed(ladder):
    ladder.run()
    ladder.overrides = ["stages.reasoning_rl.grpo.learning_rate=0.5"]
    states = ladder.states()
    assert states["cold_start_sft"] == "done"
    assert states["reasoning_rl"] == "stale"
    assert states["sft"] == "stale"
    assert "learning_rate" in ladder.reason("reasoning_rl") and "0.5" in ladder.reason("reasoning_rl")


def test_what_changed_is_said_as_a_profile_says_it_and_key_by_key():
    old = {"rewards": [{"use": "accuracy", "weight": 1.0}, {"use": "format"}], "stop": ["a"], "lora": None}
    new = {"rewards": [{"use": "accuracy", "weight": 2.0}, {"use": "format"}], "stop": ["a", "b"], "lora": {"rank": 8}}
    assert changed_keys(old, new) == [
        'lora (null -> {"rank": 8})', "rewards.0.weight (1.0 -> 2.0)", 'stop (["a"] -> ["a", "b"])',
    ]  # fmt: skip


def test_stages_after_a_stale_one_stay_valid_when_it_makes_the_same_again(ladder):
    ladder.run()
    ladder.overrides = ["stages.reasoning_rl.grpo.learning_rate=0.5"]
    assert ladder.run() == ["reasoning_rl"]


def test_stages_after_a_stale_one_run_again_when_it_makes_something_else(ladder):
    ladder.run()

    def other(ctx):
        (ctx.folder / "checkpoint").mkdir()
        (ctx.folder / "checkpoint" / "weights").write_text("different")
        return StageResult(outputs=["checkpoint"])

    ladder.bodies["reasoning_rl"] = other
    ladder.overrides = ["stages.reasoning_rl.grpo.learning_rate=0.5"]
    assert ladder.run()[:2] == ["reasoning_rl", "rejection_sampling"]


def test_a_further_student_does_not_make_the_teacher_stale(ladder):
    ladder.run()

    def more_students(ctx):
        (ctx.folder / "checkpoint").mkdir()
        (ctx.folder / "checkpoint" / "weights").write_text("base_model")
        (ctx.folder / "students").mkdir()
        for name in ("qwen", "second"):
            (ctx.folder / "students" / name).write_text("base_model")
        return StageResult(outputs=["checkpoint", "students"])

    ladder.bodies["base_model"] = more_students
    ladder.overrides = ["stages.base_model.students.second=pocket:student-llama"]
    ran = ladder.run()
    assert ran[:2] == ["base_model", "distill"]
    assert "r1_zero" not in ran


def test_another_seed_makes_sampled_stages_stale_but_not_the_base(ladder):
    ladder.run()
    ladder.overrides = ["seed=7"]
    assert ladder.states()["base_model"] == "done"
    assert ladder.states()["r1_zero"] == "stale"


def test_a_changed_file_of_the_users_makes_its_stage_stale(ladder, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "2"}\n')
    ladder.overrides = [f"questions.reasoning=[{{use: 'jsonl:{rows}'}}]"]
    ladder.run()
    rows.write_text('{"question": "1+2?", "answer": "3"}\n')
    assert ladder.states()["r1_zero"] == "stale"
    assert str(rows) in ladder.reason("r1_zero")


def test_a_failed_stage_leaves_no_finished_folder_and_goes_on_from_its_partial_one(ladder):
    seen = []

    def fails_once(ctx):
        seen.append((ctx.folder / "half").exists())
        (ctx.folder / "half").write_text("work")
        if len(seen) == 1:
            ctx.checkpointed(3, 10, "step")
            raise RunError("out of luck")
        return StageResult(outputs=["half"])

    ladder.bodies["r1_zero"] = fails_once
    with pytest.raises(RunError, match="out of luck"):
        ladder.run()
    assert not ladder.folder.stage("r1_zero").exists()
    assert ladder.states()["r1_zero"] == "partial"
    assert ladder.reason("r1_zero") == "resumable at step 3 of 10"
    ladder.run("r1_zero")
    assert seen == [False, True]


def test_ctrl_c_leaves_a_run_that_continues(ladder):
    def interrupted(ctx):
        raise KeyboardInterrupt

    ladder.bodies["r1_zero"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        ladder.run()
    del ladder.bodies["r1_zero"]
    assert ladder.run("r1_zero") == ["r1_zero"]


def test_partial_work_of_one_configuration_is_not_used_by_another(ladder):
    folders = []

    def remembers(ctx):
        folders.append(ctx.folder)
        raise RunError("stop")

    ladder.bodies["r1_zero"] = remembers
    for overrides in ([], ["stages.r1_zero.grpo.learning_rate=0.5"], []):
        ladder.overrides = overrides
        with pytest.raises(RunError):
            ladder.run("r1_zero")
    assert folders[0] != folders[1]
    assert folders[0] == folders[2]


def test_a_crash_before_the_rename_is_finished_by_the_next_run(ladder):
    ladder.run("base_model")
    run = ladder.folder
    whole = run.path / ".partial" / "base_model-caught"
    whole.parent.mkdir(exist_ok=True)
    run.stage("base_model").rename(whole)
    assert ladder.run("base_model") == []
    assert ladder.states()["base_model"] == "done"


def test_what_a_stale_stage_made_before_is_kept(ladder):
    ladder.run("r1_zero")
    ladder.overrides = ["stages.r1_zero.grpo.learning_rate=0.5"]
    ladder.run("r1_zero")
    assert (ladder.folder.path / ".replaced" / "r1_zero-1" / "manifest.json").is_file()


def test_a_vanished_output_is_noticed(ladder):
    ladder.run("base_model")
    shutil.rmtree(ladder.folder.stage("base_model") / "checkpoint")
    assert ladder.states()["base_model"] == "stale"
    assert "checkpoint/weights is gone" in ladder.reason("base_model")


def test_the_manifest_says_where_everything_came_from(ladder):
    ladder.run("r1_zero")
    manifest = Manifest.read(ladder.folder.stage("r1_zero"))
    assert manifest.inputs == {
        "base_model/checkpoint": Manifest.read(ladder.folder.stage("base_model")).identity("checkpoint")
    }
    assert set(manifest.outputs) == {"checkpoint/weights", "students/qwen"}
    assert "log.txt" in manifest.records
    assert manifest.code["commit"] is None or len(manifest.code["commit"]) == 40
    assert manifest.packages["trl"]


def test_scratch_is_removed_from_the_finished_stage(ladder):
    def with_scratch(ctx):
        (ctx.folder / "trainer").mkdir()
        (ctx.folder / "out").write_text("x")
        return StageResult(outputs=["out"], scratch=["trainer"])

    ladder.bodies["base_model"] = with_scratch
    ladder.run("base_model")
    assert not (ladder.folder.stage("base_model") / "trainer").exists()


def test_a_stage_that_does_not_write_its_output_is_not_finished(ladder):
    ladder.bodies["base_model"] = lambda ctx: StageResult(outputs=["checkpoint"])
    with pytest.raises(RunError, match="checkpoint"):
        ladder.run("base_model")
    assert not ladder.folder.stage("base_model").exists()


def test_a_run_folder_of_another_profile_is_refused(ladder):
    ladder.run("base_model")
    with pytest.raises(ConfigError, match="made by the profile 'smoke'"):
        RunFolder("test", "pocket").claim()


def test_two_commands_cannot_write_one_run(ladder):
    ladder.run("base_model")
    with ladder.folder.lock(), pytest.raises(RunError, match="is writing"):
        ladder.run("r1_zero")


def test_a_full_disk_is_refused_before_any_work(ladder, monkeypatch):
    usage = shutil.disk_usage(".")._replace(free=10 * 2**20)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    with pytest.raises(RunError, match="10 MiB free"):
        ladder.run("base_model")
    assert ladder.ran == []


def test_a_damaged_manifest_is_named(ladder):
    ladder.run("base_model")
    path = ladder.folder.stage("base_model") / "manifest.json"
    path.write_text(json.dumps({"stage": "base_model"}))
    with pytest.raises(RunError, match=r"manifest\.json is damaged"):
        ladder.states()


def test_scratch_outlives_a_crash_before_the_manifest_and_goes_after_it(ladder, monkeypatch):
    def with_scratch(ctx):
        (ctx.folder / "trainer").mkdir(exist_ok=True)
        (ctx.folder / "trainer" / "weights").write_text("x")
        (ctx.folder / "out").write_text("x")
        return StageResult(outputs=["out"], scratch=["trainer"])

    class Crash(BaseException):
        pass

    def crashes(*_):
        raise Crash

    ladder.bodies["base_model"] = with_scratch
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(Manifest, "write", crashes)
        ladder.run("base_model")
    [partial] = (ladder.folder.path / ".partial").iterdir()
    assert (partial / "trainer" / "weights").is_file()
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr("pipeline.runs.folder._remove_unlisted", crashes)
        ladder.run("base_model")
    assert ladder.run("base_model") == []  # whole, so finished by the next command without running again
    assert not (ladder.folder.stage("base_model") / "trainer").exists()


def test_what_a_crash_left_half_written_is_no_part_of_the_stage(ladder, monkeypatch):
    class Crash(BaseException):
        pass

    def crashes(*_):
        raise Crash

    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr("pathlib.Path.replace", crashes)
        patched.setattr(RunFolder, "claim", lambda self: self.path.mkdir(parents=True, exist_ok=True))
        ladder.run("base_model")
    [partial] = (ladder.folder.path / ".partial").iterdir()
    assert (partial / "manifest.json.tmp").is_file()
    ladder.run("base_model")
    folder = ladder.folder.stage("base_model")
    manifest = Manifest.read(folder)
    files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    assert files == {*manifest.outputs, *manifest.records, "manifest.json"}


def test_a_climb_looks_at_each_stage_a_few_times_only(ladder, monkeypatch):
    looked = Counter()

    def counted(profile, stage):
        looked[stage.id] += 1
        return resolved_config(profile, stage)

    monkeypatch.setattr("pipeline.runs.runner.resolved_config", counted)
    assert len(ladder.run()) == len(LADDER)
    assert max(looked.values()) <= 4  # before it runs, as it is run, once it is done, and at the end


def test_status_beside_a_running_climb_says_who_runs_what_and_at_which_step(ladder):
    told = {}

    def looks(ctx):
        (ctx.folder / "metrics.jsonl").write_text('{"step": 51}\n{"step": 52}\n{"ste')
        ctx.checkpointed(40, 120, "step")
        told.update(under_way(ladder.folder, stage_states(ladder.profile, ladder.folder)))
        return StageResult(outputs=[])

    ladder.bodies["r1_zero"] = looks
    ladder.run("r1_zero")
    assert told == {"r1_zero": f"process {os.getpid()} runs it, at step 52"}
    assert ladder.folder.writer() is None
    assert under_way(ladder.folder, stage_states(ladder.profile, ladder.folder)) == {}
