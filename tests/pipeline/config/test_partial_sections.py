"""A section that a profile sets in part keeps the rest of its default, whoever gave the default."""

import copy
from typing import Any

import pytest
import yaml

from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.core.strict import Strict

ROOM = 100_000
"""A context that the paper's lengths fit into."""


def bare_profile() -> dict:
    """The pocket profile's data without any section that has a default."""
    with open("configs/pocket.yaml", encoding="utf-8") as file:
        data = copy.deepcopy(yaml.safe_load(file))
    data["engine"]["max_model_len"] = ROOM

    def strip(section: type[Strict], values: dict) -> None:
        for name, field in section.model_fields.items():
            if name not in values:
                continue
            if isinstance(field.get_default(call_default_factory=True), Strict):
                del values[name]
            elif isinstance(field.annotation, type) and issubclass(field.annotation, Strict):
                strip(field.annotation, values[name])

    strip(Profile, data)
    return data


BARE = bare_profile()
WHOLE = Profile.model_validate(BARE)


def defaulted(holder: Strict, prefix: str = "") -> list[tuple[str, str]]:
    """(dotted path of a section that nobody wrote, one of its keys) over a whole profile."""
    found = []
    for name in type(holder).model_fields:
        value = getattr(holder, name)
        if isinstance(value, Strict):
            if name not in holder.model_fields_set:
                found += [(f"{prefix}{name}", key) for key in type(value).model_fields]
            found += defaulted(value, f"{prefix}{name}.")
    return found


def with_key(path: str, key: str, value: Any) -> dict:
    data = copy.deepcopy(BARE)
    here = data
    for part in path.split("."):
        here = here.setdefault(part, {})
    here[key] = value
    return data


@pytest.mark.parametrize(("path", "key"), defaulted(WHOLE))
def test_naming_one_key_of_a_section_changes_no_other(path, key):
    section: Any = WHOLE
    for part in path.split("."):
        section = getattr(section, part)
    value = section.model_dump(mode="json").get(key, getattr(section, key))  # a default may be left out of a dump
    assert Profile.model_validate(with_key(path, key, value)) == WHOLE


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        ("stages.evaluate.sampling", "max_tokens", 512),
        ("stages.student_rl.grpo", "max_steps", 5),
        ("stages.student_rl.grpo.speedups", "packing", False),
        ("stages.distill.sft", "epochs", 3),
        ("stages.rejection_sampling.filters", "allow_code", True),
        ("stages.cold_start_data.sampling", "top_p", 0.5),
        ("stages.reward_model.sampling", "temperature", 0.5),
        ("cleaning", "duplicates", "near"),
    ],
)
def test_another_value_for_one_key_changes_that_key_alone(path, key, value):
    expected = WHOLE.model_dump(mode="json")
    here = expected
    for part in path.split("."):
        here = here[part]
    assert here[key] != value
    here[key] = value
    assert Profile.model_validate(with_key(path, key, value)).model_dump(mode="json") == expected


def test_a_section_in_part_keeps_the_papers_figures_in_a_profile_file_too(tmp_path):
    """The same through a file and through an override, which read the profile as JSON."""
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump({**BARE, "name": "bare"}))
    sampling = load_profile(str(bare), ["stages.evaluate.sampling.max_tokens=512"]).profile.stages.evaluate.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.6, 0.95, 512)


def test_named_entries_keep_their_own_default_and_no_other_entry_comes_back():
    data = copy.deepcopy(BARE)
    data["stages"]["reward_model"]["scorers"] = {"helpful": {"group": "helpful_prompts", "prompts": 7}}
    data["stages"]["general_rl"]["rewards"] = [{"use": "accuracy"}]  # names no scorer that is gone
    scorers = Profile.model_validate(data).stages.reward_model.scorers
    assert list(scorers) == ["helpful"]
    assert scorers["helpful"].part == "summary"
