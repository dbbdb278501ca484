"""The ladder's table: what must be true of every row, and that nothing beside it knows the stages by name."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

from pipeline.config.stages import (
    BaseModelStage,
    EvaluateStage,
    ReportStage,
    RewardModelStage,
    RLStage,
    SampledData,
    SFTStage,
    Stages,
    StudentRLStage,
)
from pipeline.core.errors import ConfigError
from pipeline.ladder import BASE, DISTILL, LADDER, STAGES, STUDENT_RL, Rung, find_stage, needed_for, of_kind, rungs

ROOT = Path(__file__).resolve().parents[2]
SECTIONS = {
    "base": BaseModelStage, "rl": RLStage, "sft": SFTStage, "rows": SampledData, "scorer": RewardModelStage,
    "evaluate": EvaluateStage, "report": ReportStage,
}  # fmt: skip

SPELLED = {
    ("pipeline/checks/profile.py", "r1_zero"): "a prompt template",
    ("pipeline/config/data.py", "r1_zero"): "a prompt template, and the format of answers to it",
    ("pipeline/config/policy.py", "sft"): "a way to distil",
    ("pipeline/config/stages.py", "r1_zero"): "a format of answers",
    ("pipeline/steps/evaluation.py", "r1_zero"): "a prompt template",
    ("pipeline/new/profile.py", "r1_zero"): "a prompt template",
    ("pipeline/models/routers.py", "base_model"): "the decoder inside a model with a head",
    ("benchmarks/sharding.py", "sft"): "a kind of stages",
    ("data_recipes/templates.py", "r1_zero"): "a prompt template",
    ("data_recipes/cleaning/filters.py", "r1_zero"): "a format of answers",
    ("rewards/response.py", "r1_zero"): "a format of answers",
    ("rewards/builtin/format.py", "r1_zero"): "a format of answers",
    ("rewards/builtin/reward_model.py", "reward_model"): "a reward",
    ("rewards/registry.py", "reward_model"): "a reward",
    ("pipeline/checks/models.py", "sft"): "a kind of stages",
    ("pipeline/cli.py", "evaluate"): "a kind of stages",
    ("pipeline/cli.py", "report"): "a kind of stages, and a command",
    ("pipeline/core/arguments.py", "report"): "a command",
    ("benchmarks/report.py", "report"): "an argument",
    ("benchmarks/grpo_rollouts.py", "stages.r1_zero"): "the stage whose steps are measured",
    ("benchmarks/chaos_servers.py", "r1_zero"): "the stage that servers are killed in",
}
"""Where product code spells a word that is a stage's id, and what it means there."""
ONE_OF_ITS_KIND = ("base_model", "evaluate", "report")
"""Sections that every profile has once, so that `profile.stages.NAME` leaves no other out."""


def test_every_stage_has_a_section_of_its_kind_and_a_script():
    assert list(Stages.model_fields) == list(STAGES)
    for stage in LADDER:
        section = Stages.model_fields[stage.id].annotation
        assert issubclass(section, SECTIONS[stage.kind]), stage.id
        assert issubclass(section, StudentRLStage) == (stage.trains == "one student"), stage.id
    assert {path.stem for path in (ROOT / "stages").glob("[!_]*.py")} == set(STAGES)


@pytest.mark.parametrize("stage", LADDER, ids=lambda stage: stage.id)
def test_a_stage_reads_only_what_comes_before_it(stage):
    before = list(STAGES)[: list(STAGES).index(stage.id)]
    assert set(stage.inputs) <= set(before)
    assert {stage.starts_from, stage.learns_from} - {""} <= set(before)
    assert needed_for(stage)[-1] is stage


def test_a_stage_that_trains_or_samples_names_its_start_and_its_prompts():
    for stage in of_kind("rl", "sft", "rows", "scorer"):
        assert stage.starts_from and stage.template in ("r1_zero", "chat"), stage.id


def test_names_of_rungs_tell_them_apart():
    found = rungs(["qwen", "llama"], {"student_rl": "llama"})
    names = [rung.name for rung in found]
    assert names == [
        "base", "R1-Zero", "Dev1", "Dev2", "Dev3", "R1", "qwen base", "llama base", "qwen distilled",
        "llama distilled", "llama RL",
    ]  # fmt: skip
    assert len({(rung.stage.id, rung.checkpoint) for rung in found}) == len(found)


def test_a_rung_knows_what_it_was_trained_from_and_on_whose_answers():
    def names(rung: Rung) -> tuple[str | None, str | None]:
        return tuple(other and other.name for other in (rung.start, rung.teacher))

    assert {rung.name: names(rung) for rung in rungs(["qwen"], {"student_rl": "qwen"})} == {
        "base": (None, None), "R1-Zero": ("base", None), "Dev1": ("base", "R1-Zero"), "Dev2": ("Dev1", None),
        "Dev3": ("base", "Dev2"), "R1": ("Dev3", None), "qwen base": (None, None),
        "qwen distilled": ("qwen base", "Dev2"), "qwen RL": ("qwen base", None),
    }  # fmt: skip


def test_checkpoints_lie_where_they_always_lay():
    assert (BASE.checkpoint(), BASE.checkpoint("qwen")) == ("checkpoint", "students/qwen")
    assert DISTILL.checkpoint("qwen") == "students/qwen/checkpoint"
    assert STUDENT_RL.checkpoint("qwen") == "checkpoint"


def test_a_stage_is_found_by_both_spellings():
    assert find_stage("student-rl") is find_stage("student_rl") is STUDENT_RL
    with pytest.raises(ConfigError, match=r"No stage 'student'.*student_rl"):
        find_stage("student")


def spelled() -> Counter:
    """(file, word) -> how often product code says the id of a stage: a string, or an attribute of `stages`."""
    found: Counter = Counter()
    for top in ("pipeline", "stages", "rewards", "data_recipes", "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if name == "pipeline/ladder.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and node.value in STAGES:
                    found[name, node.value] += 1
                if isinstance(node, ast.Attribute) and node.attr in STAGES and node.attr not in ONE_OF_ITS_KIND:
                    of = node.value
                    if (isinstance(of, ast.Attribute) and of.attr == "stages") or (
                        isinstance(of, ast.Name) and of.id == "stages"
                    ):
                        found[name, f"stages.{node.attr}"] += 1
    return found


def test_only_the_table_knows_the_stages_by_name():
    """Else a stage that is added is left out somewhere. Ask `pipeline.ladder`, or the class of a section."""
    assert set(spelled()) - set(SPELLED) == set()


def test_templates_of_pages_know_no_stage_by_name():
    pages = [*(ROOT / "pipeline").rglob("*.jinja"), *(ROOT / "pipeline" / "report" / "templates").glob("*.js")]
    named = re.compile(rf"""["'.]({"|".join(STAGES)})\b(?!\.jinja)""")
    found = {(path.name, word) for path in pages for word in named.findall(path.read_text(encoding="utf-8"))}
    assert found <= {("tables.html.jinja", "evaluate"), ("claims.html.jinja", "evaluate"),
                     ("model_card.md.jinja", "evaluate")}  # fmt: skip
