"""Nested columns by a dotted path, and questions that are chat messages."""

import json

import pyarrow
import pyarrow.parquet
import pytest

from data_recipes.sources import catalogue
from pipeline.core.errors import ConfigError

USER = {"role": "user", "content": "What is 2+3?"}
VERL = {"prompt": [USER], "reward_model": {"ground_truth": "5", "style": "rule"}, "extra_info": {"index": 7}}
MAPPED = {"columns": {"question": "prompt", "answer": "reward_model.ground_truth", "id": "extra_info.index"}}


def rows(tmp_path, kind, given, args):
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in given))
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(given), path)
    else:
        quoted = [
            ",".join('"' + json.dumps(value).replace('"', '""') + '"' for value in row.values()) + "\n" for row in given
        ]
        path.write_text(",".join(given[0]) + "\n" + "".join(quoted))
    return catalogue.load_finite(f"{kind}:{path}", args)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_a_dotted_path_names_a_value_inside_a_column(tmp_path, kind):
    [row] = rows(tmp_path, kind, [VERL], MAPPED)
    assert (row.id, row.question, row.answer) == ("7", "What is 2+3?", "5")


def test_a_column_whose_own_name_has_a_dot_comes_first(tmp_path):
    given = {"question": "q", "a.b": "1", "a": {"b": "2", "c": ["3", "4"]}}
    [row] = rows(tmp_path, "jsonl", [given], {"columns": {"answer": "a.b", "second": "a.c.1", "none": "a.c.9"}})
    assert (row.answer, row.columns()["second"], row.columns()["none"]) == ("1", "4", None)


def test_null_on_the_way_is_null_and_a_wrong_name_is_told_with_those_there(tmp_path):
    empty = {**VERL, "reward_model": None, "extra_info": {"index": 8}}
    assert [row.answer for row in rows(tmp_path, "jsonl", [VERL, empty], MAPPED)] == ["5", None]
    args = {"columns": {**MAPPED["columns"], "answer": "reward_model.truth"}}
    with pytest.raises(ConfigError, match=r"line 1: .*'reward_model.truth'.*Columns there: ground_truth, style"):
        rows(tmp_path, "jsonl", [VERL], args)


SYSTEM, ANSWER = {"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "5"}
CONVERSATIONS = {
    "a user's message": ([USER], "What is 2+3?", None),
    "with a system's": ([SYSTEM, USER], "Be brief.\n\nWhat is 2+3?", None),
    "with an answer": ([USER, ANSWER], "What is 2+3?", "5"),
    "in parts": ([{"role": "user", "content": [{"type": "text", "text": "What is 2+3?"}]}], "What is 2+3?", None),
    "ShareGPT's": (
        [{"from": "human", "value": "What is 2+3?"}, {"from": "gpt", "value": "5"}], "What is 2+3?", "5",
    ),
}  # fmt: skip


@pytest.mark.parametrize("text", [False, True], ids=["as a list", "as text"])
@pytest.mark.parametrize(("messages", "question", "response"), CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
def test_a_question_may_be_chat_messages(tmp_path, text, messages, question, response):
    given = {"messages": json.dumps(messages) if text else messages, "answer": "5"}
    [row] = rows(tmp_path, "jsonl", [given], {"columns": {"question": "messages", "answer": "answer"}})
    assert (row.question, row.answer, row.response) == (question, "5", response)


@pytest.mark.parametrize("messages", [[USER, ANSWER, USER], [ANSWER], [SYSTEM], [USER, USER], [{"role": "tool"}]])
def test_a_conversation_of_another_shape_names_its_row(tmp_path, messages):
    with pytest.raises(ConfigError, match=r"rows\.jsonl,? line 1: 'question' is a conversation of"):
        rows(tmp_path, "jsonl", [{"question": messages, "answer": "5"}], {})


def test_a_question_that_is_json_of_its_own_stays_text(tmp_path):
    given = {"question": '[{"a": 1}, {"a": 2}]', "answer": "3"}
    [row] = rows(tmp_path, "jsonl", [given], {})
    assert row.question == given["question"]


def test_an_id_that_a_gap_made_a_float_is_a_whole_number(tmp_path):
    given = [{"id": 0.0, "question": "q", "answer": "1"}, {"id": 2.5, "question": "r", "answer": "1"}]
    assert [row.id for row in rows(tmp_path, "jsonl", given, {})] == ["0", "2.5"]
