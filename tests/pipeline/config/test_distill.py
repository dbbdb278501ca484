"""What a profile says of distillation on a student's own samples, and of budgets."""

import pytest

from pipeline.config.loading import load_profile
from pipeline.config.policy import Budget
from pipeline.core.errors import ConfigError
from pipeline.ladder import DISTILL, STAGES, Rung, needed_for, rungs
from pipeline.runs.identity import resolved_config

ON_POLICY = (
    "stages.distill.on_policy={questions: {reasoning: 40}, rewards: [{use: accuracy, weight: 0.0}], "
    "grpo: {max_completion_tokens: 64}}"
)
BOTH = "stages.distill.method=sft_then_on_policy"


def profile(*overrides: str):
    return load_profile("pocket", overrides).profile


def test_nothing_that_is_stored_changes_where_nothing_of_it_is_used():
    written = profile().stages.model_dump(mode="json")
    assert written["distill"].keys() == {"sft", "learning_rates"}
    assert "budget" not in written["student_rl"]
    assert DISTILL.reads_of(profile().stages.taught) == DISTILL.reads


def test_the_teacher_is_read_only_where_it_teaches():
    """Else a run whose students are fine-tuned on rows would be stale whenever R1 changes."""
    taught = profile(ON_POLICY, BOTH).stages.taught
    assert taught == {DISTILL.id}
    assert DISTILL.reads_of(taught) == (*DISTILL.reads, f"{DISTILL.teacher}/checkpoint")
    before = {stage.id for stage in needed_for(DISTILL, taught)}
    assert DISTILL.teacher in before and DISTILL.teacher not in {stage.id for stage in needed_for(DISTILL)}
    assert list(STAGES).index(DISTILL.teacher) < list(STAGES).index(DISTILL.id)


def test_a_section_is_part_of_the_stage_and_is_checked_like_an_rl_stage():
    given = profile(ON_POLICY, BOTH)
    assert "on_policy" in resolved_config(given, DISTILL)["stage"]
    assert given.stages.policies["distill.on_policy"] is given.stages.distill.on_policy
    grpo = given.stages.distill.on_policy.grpo
    assert (grpo.beta, grpo.loss_type, grpo.rollout_prompts) == (0.0, "dapo", None)
    with pytest.raises(ConfigError, match=r"stages\.distill\.on_policy\.questions.*'reasonin'"):
        profile(ON_POLICY, BOTH, "stages.distill.on_policy.questions={reasonin: 4}")
    with pytest.raises(ConfigError, match=r"stages\.distill\.on_policy\.heldout\.set is 'nothing'"):
        profile(ON_POLICY, BOTH, "stages.distill.on_policy.heldout={set: nothing, every: 2, questions: 2, samples: 1}")


def test_adapters_of_the_whole_profile_reach_it_where_it_is_there():
    assert profile("lora={rank: 4}").stages.distill.on_policy is None
    assert profile("lora={rank: 4}", ON_POLICY, BOTH).stages.distill.on_policy.grpo.lora.rank == 4


@pytest.mark.parametrize(
    "overrides, message",
    [
        ((BOTH,), "on_policy is missing"),
        ((ON_POLICY, BOTH, "stages.distill.on_policy.sft_epochs=2"), "sft_epochs is 2 and sft.epochs 2"),
        ((ON_POLICY, BOTH, "stages.distill.on_policy.grpo.sampled_prompts=99"), "every reward has weight 0"),
        ((ON_POLICY, "stages.distill.compare={qwen: [sft]}"), "name each method once"),
        ((ON_POLICY, "stages.distill.compare={nobody: [on_policy]}"), "names the student 'nobody'"),
        (("stages.student_rl.budget={seconds: 0.0}",), "seconds"),
    ],
)
def test_what_cannot_be_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        profile(*overrides)


def test_a_budget_of_its_own_makes_room_for_samples():
    given = profile(
        ON_POLICY, BOTH, "stages.distill.on_policy.sft_epochs=2", "stages.distill.on_policy.budget={seconds: 9}"
    )
    assert given.stages.distill.on_policy.budget == Budget(seconds=9)
    assert profile("stages.student_rl.budget={seconds: equal}").stages.student_rl.budget.seconds == "equal"


def test_each_way_that_is_compared_is_a_rung_of_its_own():
    given = profile(ON_POLICY, "stages.distill.compare={qwen: [on_policy, sft_then_on_policy]}").stages
    found = {rung.name: rung for rung in rungs(*given.measured)}
    assert [name for name in found if name.startswith("qwen")] == [
        "qwen base", "qwen distilled", "qwen on-policy", "qwen sft-then-on-policy", "qwen RL",
    ]  # fmt: skip
    compared = found["qwen on-policy"]
    assert compared.checkpoint == "students/qwen/on_policy/checkpoint"
    assert (compared.start, compared.teacher) == (found["qwen base"], Rung(STAGES[DISTILL.teacher]))
    assert len({(rung.stage.id, rung.checkpoint) for rung in found.values()}) == len(found)
