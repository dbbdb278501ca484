"""Question rows and where they come from: determinism, splits, errors with file and line."""

import itertools

import pytest

from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.mixtures import mix
from data_recipes.pocket import general
from data_recipes.pocket.corpus import CorpusSettings, documents
from data_recipes.sources import catalogue
from pipeline.config.data import Source
from pipeline.core.errors import ConfigError
from rewards import Verdict, judge_answers


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        ('{"question": "a", "answer": "1"}\n{"question": ""}\n', ["line 2", "question"]),
        ('{"question": "a", "answer": "1"}\n\n{"answer": "1"}\n', ["line 3", "question"]),
        ('{"question": "a"\n', ["line 1", "JSON"]),
        ("[1, 2]\n", ["line 1", "object"]),
        ('{"question": "   ", "answer": "1"}\n', ["line 1", "empty"]),
        ('{"question": "a", "answer": ["1"]}\n', ["line 1", "answer"]),
        (
            '{"id": "x", "question": "a", "answer": "1"}\n{"id": "x", "question": "b", "answer": "1"}\n',
            ["line 2", "line 1", "'x'"],
        ),
        ("", ["no rows"]),
    ],
)
def test_a_bad_row_names_file_and_line(tmp_path, lines, parts):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines)
    with pytest.raises(ConfigError) as error:
        catalogue.load_finite(f"jsonl:{path}", {})
    for part in ["rows.jsonl", *parts]:
        assert part in str(error.value)


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "a\u2028b", "answer": 3, "extra": [1]}\n')
    [row] = catalogue.load_finite(f"jsonl:{path}", {})
    assert (row.question, row.answer, row.columns()["extra"]) == ("a\u2028b", "3", [1])


def test_a_missing_file_is_named():
    with pytest.raises(ConfigError, match=r"nothere\.jsonl"):
        catalogue.load("jsonl:nothere.jsonl", None, "s", False, {})


@pytest.mark.parametrize("use", ["pocket_reasoning", "pocket_general", "pocket_harmless"])
def test_the_same_seed_gives_the_same_rows_and_another_gives_others(use):
    one, again, other = (catalogue.load(use, 30, seed, False, {}) for seed in ("a", "a", "b"))
    assert one == again
    assert [row.question for row in one] != [row.question for row in other]


@pytest.mark.parametrize("use", ["pocket_reasoning", "pocket_general", "pocket_harmless"])
def test_held_out_questions_are_never_training_questions(use):
    held_out = {row.question for row in catalogue.load(use, 200, "x", True, {})}
    training = {row.question for row in catalogue.load(use, 2000, "y", False, {})}
    assert held_out and not held_out & training


@pytest.mark.parametrize("use", [use for use in catalogue.RECIPES if use.startswith("pocket_")])
def test_more_questions_begin_with_those_of_fewer(use):
    """So a set to choose checkpoints by can be what comes after the evaluation's questions."""
    assert catalogue.load(use, 61, "s", True, {})[:30] == catalogue.load(use, 30, "s", True, {})


def test_an_expression_is_held_out_in_every_language_and_phrasing():
    held_out = {row.id for row in catalogue.load("pocket_arithmetic", 3000, "x", True, {})}
    training = {row.id for row in catalogue.load("pocket_arithmetic", 3000, "y", False, {})}
    assert not held_out & training


def test_the_base_corpus_holds_no_held_out_question():
    held_out = {row.question for row in catalogue.load("pocket_arithmetic", 3000, "x", True, {"terms": (3, 3)})}
    held_out |= {request.text for request in general.all_requests() if request.held_out}
    text = "\n".join(p + rest for p, rest in itertools.islice(documents(CorpusSettings(), 5), 5000))
    assert not [question for question in held_out if f" {question} " in text]


def test_an_unknown_source_lists_those_that_are_there():
    with pytest.raises(ConfigError, match="pocket_arithmetic"):
        catalogue.load("gsm8k", 3, "s", False, {})


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigError, match="largest_mov"):
        catalogue.load("pocket_arithmetic", 3, "s", False, {"largest_mov": 3})


def test_an_endless_source_needs_a_count():
    with pytest.raises(ConfigError, match="never ends"):
        catalogue.load("pocket_arithmetic", None, "s", False, {})


def test_a_group_shares_its_count_by_weight():
    group = [Source("pocket_general", weight=3.0), Source("pocket_harmless")]
    rows, _ = mix(group, 101, "s", HeldOut({}))
    assert len(rows) == 101
    assert sum(row.domain == "harmless" for row in rows) in (25, 26)
    assert len({row.id for row in rows}) == 101


def test_reasoning_gym_tasks_come_by_name_with_their_arguments():
    rows = catalogue.load("reasoning_gym:chain_sum", 5, "s", False, {"min_terms": 3, "max_terms": 3})
    assert len(rows) == 5
    assert all(row.verifier == "reasoning_gym" for row in rows)


def test_an_unknown_reasoning_gym_task_is_named():
    with pytest.raises(ConfigError, match="no_such_task"):
        catalogue.load("reasoning_gym:no_such_task", 5, "s", False, {})


def test_good_answers_are_good_and_poor_ones_are_not():
    import random

    rng = random.Random(0)
    for request in general.all_requests():
        assert general.quality(request, general.good_answer(rng, request)) == 1.0
        poor = [general.quality(request, general.poor_answer(rng, request)) for _ in range(20)]
        assert sum(poor) / len(poor) < 0.5


@pytest.mark.parametrize("task", ["chain_sum", "countdown", "arc_agi", "simple_equations", "spell_backward"])
def test_reasoning_gym_answers_are_right_by_their_own_verifier(task):
    rows = catalogue.load(f"reasoning_gym:{task}", 3, "s", False, {})
    right = judge_answers([f"<answer>{row.answer}</answer>" for row in rows], [row.columns() for row in rows])
    wrong = judge_answers(["<answer>no such answer</answer>"] * 3, [row.columns() for row in rows])
    assert set(right) == {Verdict.CORRECT} and set(wrong) == {Verdict.WRONG}


def test_countdown_questions_have_the_solution_they_come_with():
    rows = catalogue.load("countdown", 300, "s", False, {"numbers": (3, 5), "target": (10, 99)})
    assert set(judge_answers([row.answer for row in rows], [row.columns() for row in rows])) == {Verdict.CORRECT}
    assert all(10 <= row.columns()["target"] <= 99 and 3 <= len(row.columns()["numbers"]) <= 5 for row in rows)


def test_a_countdown_puzzle_is_held_out_whatever_the_order_of_its_numbers():
    sizes = {"numbers": (2, 2), "largest": 9, "target": (1, 99)}
    held_out = {row.id for row in catalogue.load("countdown", 8, "x", True, sizes)}
    training = {row.id for row in catalogue.load("countdown", 80, "y", False, sizes)}
    assert not held_out & training


@pytest.mark.parametrize(
    ("args", "part"),
    [({"numbers": (2, 2), "largest": 3, "target": (2, 9)}, "different questions"), ({"largest": 1}, "Widen")],
)
def test_a_recipe_without_enough_questions_says_so(args, part):
    with pytest.raises(ConfigError, match=part):
        catalogue.load("countdown", 500, "s", False, args)


@pytest.mark.parametrize("use", ["pocket_arithmetic", "countdown", "reasoning_gym:chain_sum"])
def test_a_larger_count_begins_with_the_same_questions(use):
    assert catalogue.load(use, 30, "s", False, {})[:10] == catalogue.load(use, 10, "s", False, {})


def csv_rows(tmp_path, content):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    return catalogue.load_finite(f"csv:{path}", {})


def test_a_csv_cell_may_hold_a_long_chain_of_thought(tmp_path):
    [row] = csv_rows(tmp_path, f"question,answer,trace\r\nq,1,{'so ' * 100_000}\r\n".encode())
    assert len(row.columns()["trace"]) == 300_000


def test_blanks_around_the_names_of_csv_columns_are_cut_off(tmp_path):
    [row] = csv_rows(tmp_path, b"\xef\xbb\xbf question , answer\nq,1\n")
    assert (row.question, row.answer) == ("q", "1")


@pytest.mark.parametrize("header", [b"question,answer,answer", b"question,answer, answer"])
def test_a_csv_column_that_stands_twice_is_named(tmp_path, header):
    with pytest.raises(ConfigError, match=r"rows\.csv, line 1: the column 'answer' stands there more than once"):
        csv_rows(tmp_path, header + b"\nq,1,2\n")
