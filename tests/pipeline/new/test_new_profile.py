"""`make new`: from a few words to a profile that passes what `make check` checks, for a user's own models and data."""

import csv
import json
import os
from pathlib import Path

import pytest
import yaml

from pipeline.checks.fit import as_overrides, memory_verdict, overfull, reloading, smallest_change
from pipeline.checks.profile import check_profile
from pipeline.config.loading import SHIPPED_PROFILES, load_profile
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.core.errors import ConfigError
from pipeline.core.strict import merge
from pipeline.new.command import QUESTIONS, write_new_profile
from pipeline.new.hardware import Hardware, parse_hardware
from pipeline.new.models import model_source, student_sources, tokenizer_settings
from pipeline.new.profile import Wishes, _over, profile_text
from pipeline.new.questions import question_sources, told_columns
from tests.pipeline.engines.tiny import tiny_checkpoint

REWARD = "def brevity(completion_ids, **columns):\n    return [1 / (1 + len(ids)) for ids in completion_ids]\n"


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """A Qwen2 and a Llama base with tokenizers that have no chat template."""
    folder = tmp_path_factory.mktemp("bases")
    return {name: tiny_checkpoint(folder / name, name) for name in ("qwen2", "llama")}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A user's folder: questions, an exam, a reward."""
    monkeypatch.chdir(tmp_path)
    rows = [{"problem": f"What is {n} and 3 together?", "solution": f"So it is\n#### {n + 3}"} for n in range(60)]
    Path("math.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with open("exam.csv", "w", newline="") as file:
        csv.writer(file).writerows([["Question", "Answer"], *([f"How much is {n} plus 7?", n + 7] for n in range(9))])
    Path("mine.py").write_text(REWARD)
    return tmp_path


def new(name="mine", ask=None, **given) -> Profile:
    return load_profile(str(write_new_profile({"name": name, **given}, ask))).profile


def test_own_models_data_reward_and_exam(folder, bases, capsys):
    profile = new(
        base=str(bases["qwen2"]), students=f"q={bases['qwen2']} l={bases['llama']}", data="math.jsonl",
        exam="exam.csv", reward="mine.py:brevity", hardware="cpu",
    )  # fmt: skip
    check_profile(profile)
    models = profile.stages.base_model
    assert models.teacher == f"folder:{bases['qwen2']}" and set(models.students) == {"q", "l"}
    assert {source.use for source in profile.questions["reasoning"]} == {"jsonl:math.jsonl"}
    assert profile.stages.evaluate.sets["reasoning"].source.use == "csv:exam.csv"
    for section in profile.stages.of(RLStage).values():
        assert "mine.py:brevity" in [spec.use for spec in section.rewards]
    said = capsys.readouterr().out
    assert "configs/mine.yaml" in said and "make check PROFILE=mine" in said and "make all PROFILE=mine" in said
    comments = [line for line in Path("configs/mine.yaml").read_text().splitlines() if "#" in line]
    assert len(comments) >= 10


@pytest.mark.parametrize("like", sorted(path.stem for path in SHIPPED_PROFILES.glob("*.yaml") if path.stem != "paper"))
def test_every_shipped_profile_can_be_started_from(folder, like):
    """Nothing of its models, questions and sets is left beside the user's own."""
    wishes = Wishes(
        name="mine", base="hub:Qwen/Qwen2.5-0.5B", students={"half": "cut:12:hub:Qwen/Qwen2.5-0.5B"},
        sources=question_sources("math.jsonl countdown"), exam=[], reward="mine.py:brevity",
        hardware=Hardware(2, 80), like=like,
    )  # fmt: skip
    Path("mine.yaml").write_text(profile_text(wishes))
    profile, parent = load_profile("mine.yaml").profile, load_profile(like).profile
    assert profile.stages.base_model.students == wishes.students
    assert set(profile.stages.base_model.tokenizers) <= {"teacher", "half"}
    assert profile.engine == parent.engine
    assert [source.use for source in profile.questions["reasoning"]] == ["jsonl:math.jsonl", "countdown"]
    main = next(iter(profile.stages.evaluate.sets.values()))
    assert main.source.use == "jsonl:math.jsonl" and main.source.args["answer_after"] == "####"
    accurate = [s for s in profile.stages.evaluate.sets.values() if s.metric == "accuracy"]
    assert accurate == [main]
    for section in profile.stages.of(RLStage).values():
        for spec in section.rewards:
            assert spec.use != "accuracy" or spec.domains in (None, ["reasoning"])


def test_what_is_not_given_is_asked_and_asked_again_until_it_can_be_read(folder, capsys):
    answers = iter(
        ["bad name/", "mine", "no such model", "pocket", "", "nothing.txt", "math.jsonl", "", "", "much", "cpu"]
    )
    profile = new(name="", ask=lambda question: next(answers))
    assert profile.name == "mine" and profile.stages.base_model.teacher == "pocket:teacher"
    assert next(answers, None) is None
    said = capsys.readouterr().out
    assert all(
        part in said for part in ("NAME='bad name/'", "No model 'no such model'", "nothing.txt", "HARDWARE='much'")
    )


def test_what_is_given_is_not_asked(folder):
    asked = []
    given = {key: "" for key in QUESTIONS} | {"base": "pocket", "data": "math.jsonl", "hardware": "cpu"}
    new(ask=lambda question: asked.append(question) or "", **{key: value for key, value in given.items() if value})
    assert len(asked) == 3 and not any("Base model" in question for question in asked)


@pytest.mark.parametrize(("given", "parts"), [
    ({"name": ""}, ["NAME=''"]),
    ({"name": "pocket"}, ["NAME=pocket", "pocket.yaml"]),
    ({"base": "nowhere"}, ["nowhere", "OWNER/NAME"]),
    ({"base": "folder:nowhere"}, ["nowhere"]),
    ({"data": "missing.jsonl"}, ["missing.jsonl"]),
    ({"data": "mine.py"}, ["mine.py", ".jsonl"]),
    ({"reward": "mine.py:wit"}, ["REWARD=mine.py:wit", "brevity"]),
    ({"hardware": "0x80"}, ["HARDWARE='0x80'"]),
    ({"students": "a=pocket b"}, ["No model 'b'"]),
    ({"students": "a=pocket a=pocket"}, ["'a' is taken"]),
    ({"like": "poket"}, ["poket", "pocket"]),
])  # fmt: skip
def test_bad_answers_are_refused_by_name_and_nothing_is_written(folder, given, parts):
    with pytest.raises(ConfigError) as caught:
        new(**{"name": "mine", "base": "pocket", "data": "math.jsonl", "hardware": "cpu", **given})
    assert all(part in str(caught.value) for part in parts), caught.value
    assert not Path("configs").exists()


def test_a_profile_that_would_not_pass_is_not_written(folder):
    Path("math.jsonl").write_text('{"question": "Why?", "answer": "because of it all, \\\\frac{"}\n' * 3)
    with pytest.raises(ConfigError, match="Nothing is written"):
        new(base="pocket", data="math.jsonl", hardware="cpu")
    assert os.listdir() and not Path("configs").exists()


def test_a_file_with_few_questions_gets_a_rollout_that_it_can_fill(folder):
    Path("few.jsonl").write_text(
        "".join(json.dumps({"question": f"{n} + 1?", "answer": n + 1}) + "\n" for n in range(7))
    )
    profile = new(base="pocket", data="few.jsonl", hardware="cpu")
    check_profile(profile)
    assert profile.stages.r1_zero.grpo.prompts_per_rollout <= 6


@pytest.mark.parametrize(("written", "read"), [
    ("cpu", Hardware(0)), ("24", Hardware(1, 24)), ("24gb", Hardware(1, 24)), ("8x80", Hardware(8, 80)),
    ("4 x H100", Hardware(4, 80)), ("RTX-4090", Hardware(1, 24)), ("3090", Hardware(1, 24)),
    ("2*L40S", Hardware(2, 48)),
])  # fmt: skip
def test_hardware_is_read(written, read):
    assert parse_hardware(written) == read


@pytest.mark.parametrize("written", ["", "x", "-8", "8x", "8xx80", "nan", "inf", "1e9", "quantum"])
def test_what_is_no_hardware_is_refused(written):
    with pytest.raises(ConfigError, match="expected"):
        parse_hardware(written)


@pytest.mark.parametrize(("row", "args"), [
    ({"question": "q", "answer": 3}, {}),
    ({"question": "q"}, {}),
    ({"Problem": "q", "Answer": 3}, {"columns": {"question": "Problem", "answer": "Answer"}}),
    ({"prompt": "q", "solution": "so \\boxed{3}"},
     {"columns": {"question": "prompt", "answer": "solution"}, "answer_boxed": True}),
    ({"question": "q", "answer": "Thus.\n#### 3"}, {"answer_after": "####"}),
    ({"question": "q", "choices": ["a", "b"], "answer": 1}, {"options": ["choices"]}),
])  # fmt: skip
def test_columns_are_told_by_their_names(row, args):
    assert told_columns([row], "x.jsonl") == args


def test_columns_that_nobody_knows_are_listed():
    with pytest.raises(ConfigError, match="foo, bar"):
        told_columns([{"foo": 1, "bar": 2}], "x.jsonl")


def test_a_task_counts_as_reasoning_and_a_file_keeps_its_group(folder):
    task, file = question_sources("reasoning_gym:chain_sum math.jsonl")
    assert task["domain"] == "reasoning" and "domain" not in file


def test_a_tokenizer_gets_what_it_lacks_and_no_more(bases):
    assert set(tokenizer_settings(f"folder:{bases['llama']}")) >= {"chat_template"}
    assert tokenizer_settings(f"cut:1:folder:{bases['llama']}") == tokenizer_settings(f"folder:{bases['llama']}")
    assert tokenizer_settings("pocket:teacher") == {}


def test_models_of_the_hub_get_what_shipped_profiles_know_of_their_family():
    known = load_profile("qwen2.5-1.5b").profile.stages.base_model.tokenizers["teacher"]
    assert tokenizer_settings("hub:Qwen/Qwen2.5-14B") == known.model_dump(exclude_unset=True)
    assert tokenizer_settings("hub:Qwen/Qwen2.5-1.5B-Instruct") == {}


def test_students_are_made_of_the_base_where_none_is_named(bases):
    source = model_source(str(bases["qwen2"]))
    assert student_sources("", source) == {"small": f"cut:2:{source}"}
    assert student_sources("org/Model-1B", source) == {"model-1b": "hub:org/Model-1B"}


@pytest.mark.parametrize(("below", "wanted"), [
    ({}, {}), ({"a": 1}, {}), ({"a": 1}, {"b": 2}), ({"a": 1, "b": 2}, {"b": 2}), ({"a": 1}, {"a": 3}),
])  # fmt: skip
def test_what_is_written_over_a_parent_gives_what_is_wanted(below, wanted):
    assert merge(below, _over(below, wanted), dict[str, int]) == wanted


def test_the_smallest_change_that_fits_is_found_and_fits(folder):
    path = folder / "tight.yaml"
    path.write_text(yaml.safe_dump({"extends": "qwen2.5-1.5b", "name": "tight", "made_for": {"gpus": 1, "gib": 24}}))
    profile, reload = load_profile(str(path)).profile, reloading(str(path))
    assert len(overfull(profile)) > 5
    change = smallest_change(profile, reload)
    assert "lora" in change and not overfull(load_profile(str(path), as_overrides(change)).profile)
    assert "lora: {rank: 64" in memory_verdict(profile, reload)


def test_a_model_that_nothing_makes_fit_is_said_to_be_too_large(folder):
    path = folder / "huge.yaml"
    path.write_text(yaml.safe_dump({"extends": "qwen2.5-7b", "name": "huge", "made_for": {"gpus": 1, "gib": 8}}))
    profile = load_profile(str(path)).profile
    assert smallest_change(profile, reloading(str(path))) is None
    assert "smaller model" in memory_verdict(profile, reloading(str(path)))


@pytest.mark.parametrize("name", sorted(path.stem for path in SHIPPED_PROFILES.glob("qwen*.yaml")))
def test_the_shipped_profiles_fit_what_they_are_made_for(name):
    profile = load_profile(name).profile
    assert overfull(profile, profile.made_for.gpus) == []
