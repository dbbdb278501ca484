"""`explain` follows what was really read, back to the base model."""

import pytest

from pipeline.core.errors import ConfigError
from pipeline.core.manifest import Manifest
from pipeline.runs.explain import chain, explain
from pipeline.steps.context import StageResult


def explained(run, target: str) -> str:
    lines: list[str] = []
    explain(run, target, lines.append)
    return "\n".join(lines)


def test_a_students_chain_reaches_the_base_model(ladder):
    ladder.run("distill")
    links = chain(ladder.folder, "distill", Manifest.read(ladder.folder.stage("distill")))
    assert [link.stage_id for link in links] == [
        "distill", "rejection_sampling", "reasoning_rl", "cold_start_sft", "cold_start_data", "r1_zero", "base_model",
    ]  # fmt: skip


def test_code_seed_versions_and_configuration_are_told(ladder):
    ladder.overrides = ["seed=7", "stages.r1_zero.grpo.learning_rate=0.125"]
    ladder.run("r1_zero")
    manifest = Manifest.read(ladder.folder.stage("r1_zero"))
    said = explained(ladder.folder, "r1_zero/checkpoint")
    for part in (
        manifest.outputs["checkpoint/weights"], f"{manifest.seed}, of the run's seed 7", "learning_rate: 0.125",
        str(manifest.code["commit"]), f"trl {manifest.packages['trl']}", "pocket:teacher",
    ):  # fmt: skip
        assert part in said


def test_a_path_below_a_stage_is_told_with_its_own_hash(ladder):
    ladder.run("base_model")
    manifest = Manifest.read(ladder.folder.stage("base_model"))
    assert f"students/qwen  SHA-256 {manifest.outputs['students/qwen']}" in explained(
        ladder.folder, "base-model/students/qwen"
    )
    assert "log.txt" in explained(ladder.folder, "base_model/log.txt")


def make_another_base(ladder):
    def other(ctx):
        for name in ("checkpoint", "students"):
            (ctx.folder / name).mkdir()
            (ctx.folder / name / "weights").write_text("different")
        return StageResult(outputs=["checkpoint", "students"])

    ladder.bodies["base_model"] = other
    ladder.overrides = ["stages.base_model.teacher=pocket:student-qwen"]
    ladder.run("base_model")


def test_a_student_is_found_by_the_name_that_chat_takes(ladder):
    ladder.run("distill")
    assert explained(ladder.folder, "distill/qwen") == explained(ladder.folder, "distill/students/qwen")


def test_what_was_read_is_found_among_the_replaced_stages(ladder):
    ladder.run("r1_zero")
    made_of = Manifest.read(ladder.folder.stage("r1_zero")).inputs["base_model/checkpoint"]
    make_another_base(ladder)
    link = chain(ladder.folder, "r1_zero", Manifest.read(ladder.folder.stage("r1_zero")))[-1]
    assert link.folder.parent.name == ".replaced"
    assert link.manifest.identity("checkpoint") == made_of


def test_what_is_gone_is_said_to_be_gone(ladder):
    import shutil

    ladder.run("r1_zero")
    make_another_base(ladder)
    shutil.rmtree(ladder.folder.path / ".replaced")
    assert "base_model" in (said := explained(ladder.folder, "r1_zero")) and "is gone" in said


@pytest.mark.parametrize(
    ("target", "part"),
    [("r2_zero", "No stage 'r2_zero'"), ("sft", "sft is not finished"), ("r1_zero/nothing", "made no 'nothing'")],
)
def test_what_is_not_there_is_named(ladder, target, part):
    ladder.run("r1_zero")
    with pytest.raises(ConfigError, match=part):
        explained(ladder.folder, target)
