"""GRPO settings: the paper's defaults, arithmetic that must add up, and schedules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.config.grpo import RECIPES, GRPOSettings, LengthChange


def test_defaults_are_the_papers():
    s = GRPOSettings()
    assert (s.prompts_per_step, s.group_size, s.completions_per_step) == (32, 16, 512)
    assert (s.prompts_per_rollout * s.group_size, s.rollout_steps) == (8192, 16)
    assert (s.learning_rate, s.beta, s.temperature, s.max_steps) == (3e-6, 0.001, 1.0, 10_400)
    assert s.reference_refresh_steps == 400
    assert (s.completion_limit(8_199), s.completion_limit(8_200)) == (32_768, 65_536)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"rollout_prompts": 48}, ["rollout_prompts=48", "prompts_per_step=32", "set rollout_prompts"]),
        ({"checkpoint_every": 40}, ["checkpoint_every=40", "16 steps", "set checkpoint_every to 32"]),
        ({"reference_refresh_steps": 100}, ["reference_refresh_steps=100", "16 steps", "96"]),
        ({"group_size": 1}, ["group_size"]),
        ({"learning_rat": 1.0}, ["learning_rat"]),
        ({"learning_rate": "3e-6"}, ["learning_rate"]),
        ({"loss_type": "cispo"}, ["cispo", "epsilon_high"]),
        (
            {
                "max_completion_schedule": [
                    LengthChange(from_step=9, tokens=4),
                    LengthChange(from_step=5, tokens=8),
                ]
            },
            ["from_step", "[9, 5]"],
        ),
    ],
)
def test_clashing_values_name_keys_values_and_fix(changes, parts):
    with pytest.raises(ValidationError) as error:
        GRPOSettings(**changes)
    for part in parts:
        assert part in str(error.value)


def test_whole_numbers_are_floats():
    assert GRPOSettings(temperature=1, beta=0).temperature == 1.0


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(1, 99)), max_size=4, unique_by=lambda change: change[0]),
    st.integers(0, 60),
)
def test_limit_is_the_last_change_before_the_step(changes, step):
    changes = sorted(changes)
    s = GRPOSettings(
        max_completion_tokens=7,
        max_completion_schedule=[LengthChange(from_step=start, tokens=tokens) for start, tokens in changes],
    )
    assert s.completion_limit(step) == next((t for start, t in reversed(changes) if start <= step), 7)


@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 99))
def test_described_tokens_are_the_sum_over_steps(max_steps, change_at, tokens):
    s = GRPOSettings(
        prompts_per_step=2,
        group_size=3,
        rollout_prompts=None,
        max_steps=max_steps,
        max_completion_tokens=10,
        max_completion_schedule=[LengthChange(from_step=change_at, tokens=tokens)],
    )
    assert s.describe()["most completion tokens"] == sum(6 * s.completion_limit(step) for step in range(max_steps))
    assert s.longest_completion == max(s.completion_limit(step) for step in range(max_steps))


def test_a_recipe_sets_what_the_profile_leaves_out():
    dapo = GRPOSettings.model_validate({"recipe": "dapo", "dynamic_sampling": 0})
    assert (dapo.loss_type, dapo.epsilon, dapo.epsilon_high, dapo.overlong_share) == ("dapo", 0.2, 0.28, 0.2)
    assert dapo.dynamic_sampling == 0


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_is_whole(recipe):
    settings = GRPOSettings.model_validate({"recipe": recipe})
    assert all(getattr(settings, name) == value for name, value in RECIPES[recipe].items())
