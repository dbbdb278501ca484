"""A recipe wins over keys that were set less specifically than it, and gives way to all others."""

import itertools

import pytest
import yaml

from pipeline.config.grpo import RECIPES, GRPOSettings
from pipeline.config.loading import LoadedProfile, load_profile

OTHER = {
    "loss_type": "bnpo",
    "scale_rewards": "batch",
    "beta": 0.5,
    "epsilon": 0.3,
    "epsilon_high": 0.9,
    "dynamic_sampling": 1,
    "overlong_share": 0.1,
    "importance_sampling_level": "token",
}
"""A value for each key of a recipe that no recipe has."""
LEVELS = ("grandparent", "parent", "child", "SET")
SECTION = "stages.r1_zero.grpo"


def load_levels(folder, by_level: dict[str, dict]) -> LoadedProfile:
    """A profile whose GRPO section of R1-Zero is set level by level."""
    above = "pocket"
    for level in LEVELS[:-1]:
        text = {"extends": above, "name": level, "stages": {"r1_zero": {"grpo": by_level.get(level, {})}}}
        (folder / f"{level}.yaml").write_text(yaml.safe_dump(text))
        above = f"{level}.yaml"
    overrides = [f"{SECTION}.{key}={value}" for key, value in by_level.get("SET", {}).items()]
    return load_profile(str(folder / above), overrides)


@pytest.mark.parametrize(("recipe", "key"), [(recipe, key) for recipe, figures in RECIPES.items() for key in figures])
def test_the_more_specific_level_wins_and_beside_a_recipe_the_key_does(tmp_path, recipe, key):
    for of_key, of_recipe in itertools.product(LEVELS, repeat=2):
        by_level = {level: {} for level in LEVELS}
        by_level[of_key][key] = OTHER[key]
        by_level[of_recipe]["recipe"] = recipe
        loaded = load_levels(tmp_path, by_level)
        wins = LEVELS.index(of_key) >= LEVELS.index(of_recipe)
        assert getattr(loaded.profile.stages.r1_zero.grpo, key) == (OTHER[key] if wins else RECIPES[recipe][key])
        told = [note for note in loaded.notes if f"{SECTION}.{key}" in note and recipe in note and of_key in note]
        assert bool(told) != wins


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_on_a_shipped_profile_is_that_recipe(recipe):
    """The pocket profile sets `beta` itself, which no recipe but DeepSeek-R1's keeps."""
    settings = load_profile("pocket", [f"{SECTION}.recipe={recipe}"]).profile.stages.r1_zero.grpo
    assert {key: getattr(settings, key) for key in RECIPES[recipe]} == RECIPES[recipe]


def test_the_order_of_overrides_does_not_matter_to_a_recipe():
    for order in itertools.permutations([f"{SECTION}.recipe=dapo", f"{SECTION}.beta=0.5"]):
        assert load_profile("pocket", list(order)).profile.stages.r1_zero.grpo.beta == 0.5


def test_a_later_recipe_takes_the_place_of_an_earlier_one(tmp_path):
    settings = load_levels(tmp_path, {"parent": {"recipe": "dapo"}, "child": {"recipe": "dr_grpo"}})
    assert (
        settings.profile.stages.r1_zero.grpo.dynamic_sampling == GRPOSettings.model_fields["dynamic_sampling"].default
    )
