"""Other people's columns: mapping, extraction, choices, and errors that name the place and the columns there."""

import csv

import pyarrow
import pyarrow.parquet
import pytest

from data_recipes.cleaning.decontamination import HeldOut
from data_recipes.mixtures import mix
from data_recipes.sources import catalogue
from pipeline.config.data import Source
from pipeline.core.errors import ConfigError


def write_csv(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return f"csv:{path}"


@pytest.fixture
def problems(tmp_path):
    """The same two problems as CSV and as Parquet."""
    rows = [{"problem": "2+2?", "solution": "Add.\n#### 4", "n": 7}, {"problem": "3+3?", "solution": "#### 6", "n": 8}]
    path = tmp_path / "problems.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    table = [list(rows[0]), *(list(row.values()) for row in rows)]
    return {"csv": write_csv(tmp_path / "problems.csv", table), "parquet": f"parquet:{path}"}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_columns_are_mapped_and_the_answer_is_taken_after_its_mark(problems, kind):
    args = {"columns": {"question": "problem", "answer": "solution", "id": "n"}, "answer_after": "####"}
    rows = catalogue.load_finite(problems[kind], args)
    assert [(row.id, row.question, row.answer) for row in rows] == [("7", "2+2?", "4"), ("8", "3+3?", "6")]
    assert rows[0].domain == "problems" and rows[0].verifier == "math"
    assert "n" not in rows[0].columns()


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize(
    ("args", "missing"),
    [
        ({}, "question"),
        ({"columns": {"question": "prompt"}}, "prompt"),
        ({"columns": {"question": "problem", "answer": "result"}}, "result"),
        ({"options": ["wrong 1"], "columns": {"question": "problem"}}, "wrong 1"),
    ],
)
def test_a_missing_column_names_those_that_are_there(problems, kind, args, missing):
    with pytest.raises(ConfigError) as error:
        catalogue.load_finite(problems[kind], args)
    assert "problem, solution, n" in str(error.value)
    assert f"'{missing}'" in str(error.value)


def test_an_answer_without_its_mark_names_the_row(problems):
    args = {"columns": {"question": "problem", "answer": "solution"}, "answer_after": "==>"}
    with pytest.raises(ConfigError, match=r"problems\.csv, line 3.*'==>'"):
        catalogue.load_finite(problems["csv"], args)


def test_the_answer_is_taken_from_the_last_box(tmp_path):
    path = tmp_path / "boxed.jsonl"
    path.write_text('{"question": "q", "answer": "So \\\\boxed{1}, no: \\\\boxed{\\\\frac{1}{2}}."}\n')
    [row] = catalogue.load_finite(f"jsonl:{path}", {"answer_boxed": True})
    assert row.answer == "\\frac{1}{2}"


def test_a_row_with_too_many_cells_names_its_line(tmp_path):
    use = write_csv(tmp_path / "rows.csv", [["question", "answer"], ["a", "1"], ["b", "2", "3"]])
    with pytest.raises(ConfigError, match=r"line 3: 3 cells, but the first line names 2 columns"):
        catalogue.load_finite(use, {})


def test_a_row_with_too_few_cells_names_its_line(tmp_path):
    use = write_csv(tmp_path / "rows.csv", [["question", "answer"], ["a"]])
    with pytest.raises(ConfigError, match=r"line 2: 1 cells"):
        catalogue.load_finite(use, {})


def test_a_broken_parquet_file_is_named(tmp_path):
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ConfigError, match=r"rows\.parquet is not a whole Parquet file"):
        catalogue.load_finite(f"parquet:{tmp_path / 'rows.parquet'}", {})


@pytest.mark.parametrize(
    ("args", "part"),
    [
        ({"colums": {}}, "'colums' is no argument. It takes: columns, options"),
        ({"ask": "Solve it."}, "{question}"),
        ({"answer_after": "#", "answer_boxed": True}, "exclude each other"),
        ({"columns": ["question"]}, "dictionary"),
    ],
)
def test_wrong_args_say_what_is_taken(tmp_path, args, part):
    (tmp_path / "rows.jsonl").write_text('{"question": "a", "answer": "1"}\n')
    with pytest.raises(ConfigError) as error:
        catalogue.load_finite(f"jsonl:{tmp_path / 'rows.jsonl'}", args)
    assert part in str(error.value)


def test_a_question_is_asked_as_the_mapping_says_and_stays_itself(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"question": "{question} = ?", "answer": "1"}\n')
    [row] = catalogue.load_finite(f"jsonl:{tmp_path / 'rows.jsonl'}", {"ask": "Solve {question} now."})
    assert row.question == "{question} = ?"
    assert row.asked == "Solve {question} = ? now."


CHOICES = [
    ["q", "right", "no1", "no2"],
    ["Which is red?", "tomato", "grass", "sky"],
    ["And blue?", "sea", "sun", "bone"],
]


def test_choices_of_several_columns_are_shuffled_the_same_way_each_time(tmp_path):
    use = write_csv(tmp_path / "choices.csv", CHOICES)
    args = {"columns": {"question": "q", "answer": "right"}, "options": ["no1", "no2"]}
    rows = catalogue.load_finite(use, args)
    assert rows == catalogue.load_finite(use, args)
    for row in rows:
        choices = row.columns()["choices"]
        assert choices[ord(row.answer) - ord("A")] in ("tomato", "sea")
        assert row.verifier == "choice"
        assert f"({row.answer}) {choices[ord(row.answer) - ord('A')]}" in row.asked


def test_shuffling_puts_the_right_choice_everywhere(tmp_path):
    rows = [["q", "right", "no1", "no2", "no3"], *([f"Question {n}?", "r", "a", "b", "c"] for n in range(200))]
    use = write_csv(tmp_path / "many.csv", rows)
    args = {"columns": {"question": "q", "answer": "right"}, "options": ["no1", "no2", "no3"]}
    letters = [row.answer for row in catalogue.load_finite(use, args)]
    assert all(30 <= letters.count(letter) <= 70 for letter in "ABCD")


@pytest.mark.parametrize("answer", ["blue", "B", 1])
def test_choices_in_one_column_keep_their_order(tmp_path, answer):
    import json

    path = tmp_path / "listed.jsonl"
    path.write_text(json.dumps({"question": "Sky?", "answer": answer, "options": ["red", "blue"]}) + "\n")
    [row] = catalogue.load_finite(f"jsonl:{path}", {"options": ["options"]})
    assert (row.answer, row.columns()["choices"]) == ("B", ["red", "blue"])


def test_an_answer_that_is_no_option_is_refused(tmp_path):
    path = tmp_path / "listed.jsonl"
    path.write_text('{"question": "Sky?", "answer": "green", "options": ["red", "blue"]}\n')
    with pytest.raises(ConfigError, match="no multiple choice"):
        catalogue.load_finite(f"jsonl:{path}", {"options": ["options"]})


def listed(tmp_path, **row):
    import json

    path = tmp_path / "listed.jsonl"
    path.write_text(json.dumps({"question": "How many?", **row}) + "\n")
    return f"jsonl:{path}"


def chosen(row):
    return row.columns()["choices"][ord(row.answer) - ord("A")]


def test_a_whole_number_is_a_place_even_where_an_option_reads_like_it(tmp_path):
    """MMLU's form: `answer` counts from 0."""
    [row] = catalogue.load_finite(listed(tmp_path, answer=2, choices=["2", "3", "1", "0"]), {"options": ["choices"]})
    assert chosen(row) == "1"


def test_options_with_labels_are_read_as_arc_has_them(tmp_path):
    choices = {"text": ["one", "two", "three"], "label": ["1", "2", "3"]}
    [row] = catalogue.load_finite(listed(tmp_path, answer="3", choices=choices), {"options": ["choices"]})
    assert chosen(row) == "three"


def test_a_letter_beside_columns_of_all_options_is_a_place(tmp_path):
    use = listed(tmp_path, answer="B", A="one", B="two", C="three")
    [row] = catalogue.load_finite(use, {"options": ["A", "B", "C"]})
    assert (row.columns()["choices"], chosen(row)) == (["one", "two", "three"], "two")


def test_letters_can_be_the_options_themselves(tmp_path):
    [row] = catalogue.load_finite(listed(tmp_path, answer="B", no1="A", no2="C"), {"options": ["no1", "no2"]})
    assert chosen(row) == "B"


@pytest.mark.parametrize("choices", [{"a": 1}, ["one"], [str(n) for n in range(30)]])
def test_options_that_are_none_are_refused(tmp_path, choices):
    with pytest.raises(ConfigError, match="no multiple choice"):
        catalogue.load_finite(listed(tmp_path, answer="A", choices=choices), {"options": ["choices"]})


def test_gaps_and_whole_numbers_of_a_float_column_are_read_as_they_were_meant(tmp_path):
    path = tmp_path / "gaps.parquet"
    rows = {"question": ["a", "b", "c"], "answer": [72.0, float("nan"), 0.5]}
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    assert [row.answer for row in catalogue.load_finite(f"parquet:{path}", {})] == ["72", None, "0.5"]


def test_rows_whose_answer_lacks_the_mark_are_left_out_and_counted(tmp_path):
    path = tmp_path / "proofs.jsonl"
    path.write_text('{"question": "a", "answer": "\\\\boxed{1}"}\n{"question": "b", "answer": "QED"}\n')
    rows, funnel = mix([Source(f"jsonl:{path}", {"answer_boxed": True})], None, "s", HeldOut({}))
    assert [row.answer for row in rows] == ["1"]
    assert funnel.dropped == {"unreadable_answer": 1}


def test_a_column_that_no_row_can_hold_is_named(tmp_path):
    import datetime

    path = tmp_path / "dated.parquet"
    table = pyarrow.table({"question": ["a"], "answer": ["1"], "when": [datetime.datetime(2026, 1, 1)]})
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(ConfigError, match=r"'when' is .*columns"):
        catalogue.load_finite(f"parquet:{path}", {})


def test_numbers_of_a_puzzle_come_out_of_a_csv_file_as_numbers(tmp_path):
    use = write_csv(tmp_path / "puzzles.csv", [["question", "numbers", "target"], ["Reach 9.", "[3, 4, 2]", "9"]])
    [row] = catalogue.load_finite(use, {"verifier": "countdown"})
    assert row.columns()["numbers"] == [3, 4, 2]


def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        catalogue.load_finite(f"jsonl:{tmp_path}", {})
