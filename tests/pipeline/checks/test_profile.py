"""What `check` finds wrong with a profile as a whole, and what it works out of it."""

import pytest

from pipeline.checks.models import estimates
from pipeline.checks.profile import check_processes, check_profile, print_check
from pipeline.checks.scorers import scorer_notes
from pipeline.config.loading import SHIPPED_PROFILES, load_profile
from pipeline.config.stages import RewardModelStage
from pipeline.core.errors import ConfigError
from pipeline.models.memory import this_device

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


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_PROFILES.glob("*.yaml")))
def test_a_scorer_that_is_trained_and_that_no_reward_reads_is_named(name):
    shipped = load_profile(name).profile
    assert list(scorer_notes(shipped)) == []
    trained = [scorer for section in shipped.stages.of(RewardModelStage).values() for scorer in section.scorers]
    for read in ([], *([scorer] for scorer in trained)):
        rewards = ["{use: accuracy}", *(f"{{use: reward_model, args: {{model: 'stage:{scorer}'}}}}" for scorer in read)]
        profile = load_profile(name, [f"stages.general_rl.rewards=[{', '.join(rewards)}]"]).profile
        notes = list(scorer_notes(profile))
        left = [scorer for scorer in trained if scorer not in read]
        assert [note.split(" is trained")[0] for note in notes] == [
            f"warning: stages.reward_model.scorers.{scorer}" for scorer in left
        ]


def test_a_scorer_that_is_read_from_its_folder_is_read(capsys):
    by_folder = "stages.student_rl.rewards=[{use: reward_model, args: {model: runs/smoke/reward_model/helpful}}]"
    profile = load_profile("smoke", ["stages.general_rl.rewards=[{use: accuracy}]", by_folder]).profile
    [note] = scorer_notes(profile)
    assert "scorers.harmless is trained, and no reward reads it" in note


def test_where_no_scorer_is_trained_none_takes_memory_and_check_has_nothing_to_warn_of(capsys):
    nothing = ["stages.reward_model.scorers={}", "stages.general_rl.rewards=[{use: accuracy}]"]
    for overrides, trains in (([], True), (nothing, False), (nothing[1:], True)):
        profile = load_profile("smoke", overrides).profile
        assert ("reward_model" in {stage for _, stage, *_ in estimates(profile, this_device(profile))}) == trains
        print_check(profile)
        assert ("no reward reads it" in capsys.readouterr().out) == (overrides == nothing[1:])
