"""`check` warns of what a profile sets for steps that its stages never reach."""

import pytest

from pipeline.checks.steps import step_notes
from pipeline.config.loading import PROFILE_FOLDER, load_profile

END = ("stages.general_rl.grpo.max_steps=60", "stages.general_rl.heldout.best_from=50")


def notes(*overrides: str) -> list[str]:
    return [note for note in step_notes(load_profile("pocket", [*END, *overrides]).profile) if "general_rl" in note]


@pytest.mark.parametrize(
    ("key", "last_within", "first_beyond"),
    [
        ("grpo.warmup_steps={}", 59, 60),
        ("grpo.max_completion_schedule=[{{from_step: {}, tokens: 160}}]", 59, 60),
        ("heldout={{set: reasoning, every: {}}}", 60, 61),
        ("rewards.3.schedule={{from_step: {}}}", 59, 60),
        ("rewards.3.schedule={{from_step: 30, ramp_steps: {}}}", 29, 30),
    ],
)
def test_what_lies_beyond_the_last_step_is_said_and_nothing_else(key, last_within, first_beyond):
    assert notes(f"stages.general_rl.{key.format(last_within)}") == []
    (note,) = notes(f"stages.general_rl.{key.format(first_beyond)}")
    assert "ends after 60 steps" in note


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILE_FOLDER.glob("*.yaml")))
def test_shipped_profiles_set_nothing_beyond_their_steps(name):
    assert list(step_notes(load_profile(name).profile)) == []
