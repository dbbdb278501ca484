"""What a child takes away from its parent: a named entry by null, all of a mapping by `!replace`, and arguments by
naming another source."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from pipeline.config.loading import SHIPPED_PROFILES, load_profile
from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Replacing, emptied, inside, merge

OTHERS = {
    "stages": {
        "base_model": {"students": {"qwen": None, "llama": None, "small": "pocket:student-qwen"}},
        "student_rl": {"student": "small"},
        "evaluate": {"sets": {"general": None}},
    },
    "questions": {"more": [{"use": "countdown"}]},
}


def child(tmp_path, parent, data, name="mine"):
    path = tmp_path / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"extends": parent, "name": name, **data}))
    return path


def test_null_takes_a_named_entry_away(tmp_path):
    profile = load_profile(str(child(tmp_path, "pocket", OTHERS))).profile
    assert profile.stages.base_model.students == {"small": "pocket:student-qwen"}
    assert list(profile.stages.evaluate.sets) == ["reasoning", "harmless"]


def test_a_grandchild_has_them_neither_and_can_bring_one_back(tmp_path):
    child(tmp_path, "pocket", OTHERS)
    again = {"stages": {"base_model": {"students": {"llama": "pocket:student-llama"}}}}
    profile = load_profile(str(child(tmp_path, "mine.yaml", again, "again"))).profile
    assert set(profile.stages.base_model.students) == {"small", "llama"}


def test_overrides_take_away_too():
    keys = ["stages.base_model.students.llama=null", "stages.evaluate.sets.general=null"]
    profile = load_profile("pocket", keys).profile
    assert set(profile.stages.base_model.students) == {"qwen"}
    assert "general" not in profile.stages.evaluate.sets


def test_a_null_that_is_a_value_stays_one():
    profile = load_profile("smoke", ["stages.r1_zero.questions.reasoning=null", "stages.r1_zero.heldout=null"]).profile
    assert profile.stages.r1_zero.questions == {"reasoning": None}
    assert profile.stages.r1_zero.heldout is None


@pytest.mark.parametrize("name", ["qwne", "Qwen"])
def test_a_misspelt_name_is_refused(name):
    with pytest.raises(ConfigError, match=f"students.{name}"):
        load_profile("pocket", [f"stages.base_model.students.{name}=null"])


def test_what_is_still_named_elsewhere_is_refused():
    with pytest.raises(ConfigError, match=r"stages.student_rl.student names the student 'qwen'"):
        load_profile("pocket", ["stages.base_model.students.qwen=null"])


def named_mappings(value: Any, annotation: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict]]:
    """(keys that lead to it, what it holds) of each mapping whose keys are names that a profile chooses."""
    if not isinstance(value, dict):
        return
    if value and "dict[" in str(annotation):
        yield place, value
    for key, item in value.items():
        yield from named_mappings(item, inside(annotation, key), (*place, key))


def under(place: tuple[str, ...], value: Any) -> Any:
    for key in reversed(place):
        value = {key: value}
    return value


def at(place: tuple[str, ...], value: Any) -> Any:
    for key in place:
        value = value[key]
    return value


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_PROFILES.glob("*.yaml")))
def test_any_mapping_of_names_can_be_replaced_and_one_that_is_only_empty_is_told(name):
    parent = load_profile(name).profile.model_dump(mode="json")
    found = list(named_mappings(parent, Profile))
    assert {"stages.base_model.students"} <= {".".join(place) for place, _ in found}
    for place, held in found:
        first = dict([next(iter(held.items()))])
        for instead in ({}, first):
            changed = merge(parent, under(place, Replacing(instead)), Profile)
            assert at(place, changed) == instead
            changed = merge(changed, under(place, held), Profile)  # and whoever extends that adds to it
            assert at(place, changed) == held
        unchanged = merge(parent, under(place, {}), Profile)
        assert unchanged == parent
        assert list(emptied(unchanged, under(place, {}), Profile)) == [(".".join(place), list(held))]


def test_replace_takes_away_what_null_cannot_since_it_is_a_value(tmp_path):
    text = "extends: pocket\nname: mine\nstages: {general_rl: {questions: !replace {reasoning: 7}}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    loaded = load_profile(str(tmp_path / "mine.yaml"))
    assert loaded.profile.stages.general_rl.questions == {"reasoning": 7} and loaded.notes == []
    (tmp_path / "mine.yaml").write_text(text.replace("!replace {reasoning: 7}", "{}"))
    loaded = load_profile(str(tmp_path / "mine.yaml"))
    assert loaded.profile.stages.general_rl.questions == load_profile("pocket").profile.stages.general_rl.questions
    [note] = loaded.notes
    assert "stages.general_rl.questions is {}, which takes nothing away: reasoning, general" in note


@pytest.mark.parametrize("value", ["7", "[a, b]", "null", ""])
def test_replace_before_anything_but_a_mapping_is_refused(tmp_path, value):
    (tmp_path / "mine.yaml").write_text(f"extends: pocket\nname: mine\nquestions: !replace {value}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml.*line 3: !replace stands before a mapping alone"):
        load_profile(str(tmp_path / "mine.yaml"))


def of_the_exam(tmp_path, **source):
    """(source of the set as the parent has it, as a child has it that changes part of it, what was noted)"""
    sets = {"stages": {"evaluate": {"sets": {"reasoning": {"source": source}}}}}
    loaded, parent = load_profile(str(child(tmp_path, "smollm2-135m", sets))), load_profile("smollm2-135m")
    before, now = (each.profile.stages.evaluate.sets["reasoning"].source for each in (parent, loaded))
    assert before.use == "reasoning_gym:chain_sum" and before.args
    return before, now, loaded.notes


@pytest.mark.parametrize(("use", "args"), [
    ("jsonl:exam.jsonl", {}), ("countdown", {"numbers": [3, 3]}), ("reasoning_gym:knights_knaves", {}),
])  # fmt: skip
def test_a_source_of_another_kind_does_not_take_over_arguments(tmp_path, use, args):
    _, now, notes = of_the_exam(tmp_path, use=use, **({"args": args} if args else {}))
    assert now.args == args
    assert any("another kind of source" in note for note in notes)


def test_the_same_source_keeps_its_arguments(tmp_path):
    before, now, notes = of_the_exam(tmp_path, use="reasoning_gym:chain_sum", weight=2.0)
    assert now.args == before.args and notes == []


def test_another_file_is_read_by_the_same_columns(tmp_path):
    mapping = {"columns": {"question": "problem", "answer": "solution"}}
    exam = {"source": {"use": "csv:a.csv", "args": mapping}, "samples": 16}
    child(tmp_path, "pocket", {"stages": {"evaluate": {"sets": {"exam": exam}}}})
    profile = load_profile(str(tmp_path / "mine.yaml"), ["stages.evaluate.sets.exam.source.use=jsonl:b.jsonl"]).profile
    assert profile.stages.evaluate.sets["exam"].source.args == mapping
