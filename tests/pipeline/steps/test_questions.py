"""Training questions, the wall to held-out ones, and prompts that must fit."""

import dataclasses
import json
import logging
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_recipes.pocket.bases import base_folder
from data_recipes.sources.catalogue import load_finite
from pipeline.checks.questions import question_notes
from pipeline.config.data import Heldout, QuestionSource
from pipeline.config.loading import load_profile
from pipeline.core.errors import ConfigError
from pipeline.steps.context import StageContext
from pipeline.steps.questions import (
    FUNNELS,
    evaluation_questions,
    fitting_prompts,
    held_out_texts,
    render_prompts,
    selection_questions,
    training_questions,
)


def context(overrides=(), seed=None, stage_id="r1_zero"):
    profile = load_profile("smoke", overrides, seed).profile
    return StageContext(
        stage_id,
        "test",
        profile,
        getattr(profile.stages, stage_id),
        {},
        Path(tempfile.mkdtemp()),
        "cpu",
        logging.getLogger(),
        None,
        None,
    )


@pytest.fixture
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder("teacher"))


def test_held_out_questions_hang_on_the_evaluations_seed_alone():
    first = evaluation_questions(load_profile("smoke", seed=1).profile, "reasoning")
    assert first == evaluation_questions(load_profile("smoke", seed=2).profile, "reasoning")
    other = load_profile("smoke", ["stages.evaluate.seed=5"]).profile
    assert first != evaluation_questions(other, "reasoning")


@pytest.mark.parametrize("name", ["reasoning", "general"])
def test_a_checkpoint_is_chosen_by_questions_that_are_neither_evaluated_nor_trained_on(name):
    one, other = (context(["stages.evaluate.sets.general.questions=20"], seed).profile for seed in (1, 2))
    heldout = Heldout(set=name, questions=30, keep_best=True)
    chosen, evaluated = selection_questions(one, heldout), evaluation_questions(one, name)
    assert chosen and not {row.question for row in chosen} & {row.question for row in evaluated}
    assert chosen == selection_questions(other, heldout)


def held_out_file(tmp_path, keep_best, asked, **more):
    """r1_zero's profile with two questions that evaluation asks, and others in the same file."""
    train = write(tmp_path / "train.jsonl", [f"What is number {word}?" for word in ("one", "two", "three", "four")])
    test = write(tmp_path / "test.jsonl", [f"What is number {word}?" for word in ("one", "two", "three")])
    heldout = f"{{set: reasoning, every: 2, questions: 2, samples: 2, keep_best: {str(keep_best).lower()}}}"
    return [
        f"questions.reasoning=[{{use: '{train}'}}]",
        f"stages.evaluate.sets.reasoning.source={{use: '{test}'}}",
        f"stages.evaluate.sets.reasoning.questions={asked}",
        f"stages.r1_zero.heldout={heldout}",
        *(f"stages.{stage}.heldout=null" for stage in ("reasoning_rl", "general_rl", "student_rl")),
    ]


@pytest.mark.parametrize(("keep_best", "left"), [(False, 2), (True, 1)])
def test_questions_that_choose_a_checkpoint_are_behind_the_wall(tmp_path, keep_best, left):
    ctx = context(held_out_file(tmp_path, keep_best, 2))
    assert len(training_questions(ctx, {"reasoning": None})) == left


def test_a_set_without_questions_to_spare_cannot_choose_a_checkpoint(tmp_path):
    ctx = context(held_out_file(tmp_path, True, 3))
    with pytest.raises(ConfigError, match="no questions beside the 3"):
        selection_questions(ctx.profile, ctx.config.heldout)


def test_where_all_questions_are_evaluated_no_checkpoint_is_chosen_and_check_says_so(tmp_path):
    ctx = context(held_out_file(tmp_path, True, "null"))
    assert not ctx.profile.chooses(ctx.config.heldout)
    assert [note for note in question_notes(ctx.profile) if "nothing to choose by" in note and "r1_zero" in note]
    assert len(training_questions(ctx, {"reasoning": None})) == 1


def test_the_runs_seed_decides_the_training_questions():
    one, again, other = (training_questions(context(seed=seed), {"reasoning": 20}) for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_stages_of_one_run_do_not_draw_the_same_questions():
    first = training_questions(context(), {"reasoning": 20})
    second = training_questions(context(stage_id="reasoning_rl"), {"reasoning": 20})
    assert {q.id for q in first} != {q.id for q in second}


def write(path, questions):
    path.write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in questions))
    return f"jsonl:{path}"


def test_training_questions_that_are_held_out_elsewhere_are_left_out(tmp_path):
    train = write(tmp_path / "train.jsonl", ["What is one?", "What is two?"])
    test = write(tmp_path / "test.jsonl", ["what is  ONE ?"])
    overrides = [
        f"questions.reasoning=[{{use: '{train}'}}]",
        f"stages.evaluate.sets.reasoning.source={{use: '{test}'}}",
    ]
    found = training_questions(context(overrides), {"reasoning": None})
    assert [q.question for q in found] == ["What is two?"]


def test_training_on_held_out_questions_alone_is_refused(tmp_path):
    same = write(tmp_path / "same.jsonl", ["What is one?"])
    overrides = [f"questions.reasoning=[{{use: '{same}'}}]", f"stages.evaluate.sets.reasoning.source={{use: '{same}'}}"]
    with pytest.raises(ConfigError, match="Evaluate on other questions"):
        training_questions(context(overrides), {"reasoning": None})


def test_a_prompt_longer_than_the_context_names_the_question(tokenizer):
    ctx = context()
    [question] = training_questions(ctx, {"reasoning": 1})
    long = question.model_copy(update={"question": "1+" * 300 + "1?"})
    with pytest.raises(ConfigError) as error:
        render_prompts(ctx.profile, [long], tokenizer, "r1_zero", 64)
    assert question.id in str(error.value) and "256" in str(error.value)


def test_a_model_without_a_chat_template_is_refused_where_one_is_needed():
    bare = SimpleNamespace(chat_template=None, name_or_path="bare-model")
    with pytest.raises(ConfigError, match="bare-model has no chat template"):
        render_prompts(context().profile, [], bare, "chat", 64)


def test_rows_of_two_groups_never_share_an_id(tmp_path):
    ctx = context()
    groups = {}
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl").write_text(json.dumps({"question": f"Of {name}?", "answer": "1"}) + "\n")
        groups[name] = [QuestionSource(use=f"jsonl:{tmp_path / name / 'train.jsonl'}")]
    ctx = dataclasses.replace(ctx, profile=ctx.profile.model_copy(update={"questions": groups}))
    rows = training_questions(ctx, {"x": None, "y": None})
    assert len({row.id for row in rows}) == 2


def test_a_training_prompt_that_is_too_long_is_left_out_and_counted(tokenizer):
    ctx = context()
    short, other = training_questions(ctx, {"reasoning": 2})
    long = other.model_copy(update={"question": "1+" * 300 + "1?"})
    kept, prompts = fitting_prompts(ctx, [long, short], tokenizer, "r1_zero", 64)
    assert kept == [short] and prompts == render_prompts(ctx.profile, [short], tokenizer, "r1_zero", 64)
    funnel = json.loads((ctx.folder / FUNNELS).read_text())["prompts that fit"]
    assert (funnel["rows_in"], funnel["rows_out"]) == (2, 1)
    assert funnel["dropped"][0]["reason"] == "prompt_too_long" and long.id in funnel["dropped"][0]["examples"][0]


def test_prompts_that_are_all_too_long_are_refused(tokenizer):
    ctx = context()
    [question] = training_questions(ctx, {"reasoning": 1})
    long = question.model_copy(update={"question": "1+" * 300 + "1?"})
    with pytest.raises(ConfigError, match="all 1 questions are too long"):
        fitting_prompts(ctx, [long], tokenizer, "r1_zero", 64)


def test_held_out_sets_are_read_once_and_again_when_their_file_has_changed(tmp_path, monkeypatch):
    path, read = tmp_path / "exam.jsonl", []
    path.write_text('{"question": "How many pens has Tom?", "answer": "2"}\n')
    overrides = [f"cleaning.also_held_out.exam={{use: 'jsonl:{path}'}}"]
    monkeypatch.setattr(
        "pipeline.steps.questions.catalogue.load_finite", lambda *given: read.append(given) or load_finite(*given)
    )
    for stage in ("r1_zero", "reasoning_rl"):
        training_questions(context(overrides, stage_id=stage), {"reasoning": 4})
    held_out = held_out_texts(context(overrides).profile)
    assert len(read) == 1 and held_out.overlap("How many pens has Tom?") == "exam"
    path.write_text('{"question": "How many books has Ann, then?", "answer": "2"}\n')
    held_out = held_out_texts(context(overrides).profile)
    assert len(read) == 2 and held_out.overlap("How many books has Ann, then?") == "exam"
    assert held_out_texts(context([]).profile).overlap("How many books has Ann, then?") is None
