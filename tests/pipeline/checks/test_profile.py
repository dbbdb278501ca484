"""What `check` finds wrong with a profile as a whole, and what it works out of it."""

import pytest

from pipeline.checks.profile import check_processes, check_profile, print_check
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError

SCORED = "stages.{}.rewards=[{{use: accuracy}}, {{use: reward_model, args: {{model: 'stage:{}'}}}}]"


def test_a_scorer_that_no_stage_trains_is_refused_when_the_profile_is_read():
    with pytest.raises(ConfigError, match=r"stages\.general_rl\.rewards.*stage:helpfull.*are helpful, harmless"):
        load_profile("smoke", [SCORED.format("general_rl", "helpfull")])


@pytest.mark.parametrize("stage", ["r1_zero", "reasoning_rl", "student_rl"])
def test_a_scorer_that_the_stage_does_not_read_is_refused_before_anything_runs(stage):
    profile = load_profile("smoke", [SCORED.format(stage, "helpful")]).profile
    with pytest.raises(ConfigError, match=rf"stages\.{stage}\.rewards.*'helpful'.*only general_rl does"):
        check_profile(profile)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("stages.student_rl.grpo.prompts_per_step=3", "stages.student_rl.grpo.prompts_per_step is 3"),
        ("stages.distill.sft={batch_size: 3, rows_per_device: 3}", "stages.distill.sft.batch_size is 3"),
        ("stages.reward_model.batch_size=3", "stages.reward_model.batch_size is 3"),
    ],
)
def test_batches_of_every_kind_of_stage_must_divide_among_processes(override, key):
    profile = load_profile("smoke", [override]).profile
    with pytest.raises(ConfigError) as error:
        check_processes(profile, 2)
    assert key in str(error.value) and error.value.args[0].count(" is 3") == 1


def test_the_evaluation_is_counted_in_rungs(capsys):
    print_check(load_profile("smoke").profile)
    assert "8 questions × 4 samples = 32, for 11 rungs" in " ".join(capsys.readouterr().out.split())
