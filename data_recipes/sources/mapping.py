"""From the columns of somebody's data set to question rows."""

import json
import math
import random
import string
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError, model_validator

from data_recipes.question import Question
from data_recipes.sources.nested import Absent, conversation, look_up
from data_recipes.sources.tables import Record, parsed
from pipeline.config.data import Template
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict
from rewards.columns import taken_names
from rewards.grading.answers import boxed

CHOOSE = "Answer with the letter of the right choice."


class RowMapping(Strict):
    """How a data set becomes question rows."""

    columns: dict[str, str] = {}
    """Row key -> column of the data set: `{question: problem, answer: solution}`. Only these columns are taken, and a
    `question` column where none is named. Empty: every column, under its own name. A value inside a column has a dotted
    name: `{answer: reward_model.ground_truth}`. A question may be a list of chat messages with one turn."""
    options: list[str] = []
    """Columns of a multiple choice: the wrong options where `answer` is the right one's text (they are shuffled, each
    row always the same way); all options in their order where it is a letter or a number from 0; or the one column
    that lists all of them, as a list or as ARC's `{text: […], label: […]}`."""
    answer_after: str | None = Field(None, min_length=1)
    """The answer is what follows the last of this text in the answer's column: `####` in GSM8K."""
    answer_boxed: bool = False
    """The answer is the last `\\boxed{…}` in the answer's column."""
    verifier: str | None = None
    """Who compares; None: `choice` with options, else `math`. A column of that name goes before."""
    domain: str | None = None
    language: str = "en"
    ask: Template | None = None
    """How each question is put to the model, with `{question}`."""

    @model_validator(mode="after")
    def _one_way_to_the_answer(self) -> "RowMapping":
        if self.answer_after and self.answer_boxed:
            raise ValueError(f"answer_after {self.answer_after!r} and answer_boxed exclude each other: keep one")
        return self

    def taken(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The row's values under the keys of a question row. Raises ConfigError where a column is missing."""
        wanted = {"question": "question", **self.columns} if self.columns else {key: key for key in row}
        taken = {}
        for key, column in wanted.items():
            try:
                taken[key] = look_up(row, column)
            except Absent as absent:
                raise ConfigError(
                    f"{where}: there is no column '{column}' to take '{key}' from. Columns there: "
                    f"{', '.join(absent.there) or ', '.join(row)}. "
                    f"Name the right one in the source's args: {{columns: {{{key}: …}}}}."
                ) from None
        if "question" not in wanted:
            raise ConfigError(
                f"{where}: there is no 'question'. Columns there: {', '.join(row)}. Name the one that holds it in the "
                "source's args: {columns: {question: …, answer: …}}."
            )
        for key in taken_names(wanted):
            raise ConfigError(
                f"{where}: there is a column '{wanted[key]}' that would be called '{key}', which is what rewards get "
                "from the trainer by that name. Rename it in the file, or name the columns to take in the source's "
                "args: {columns: {question: …, answer: …}}."
            )
        return _from_messages(taken, where)

    def chosen_options(self, row: dict[str, Any], where: str) -> list[Any]:
        """The values of the columns that `options` names. Raises ConfigError where one is missing."""
        try:
            return [parsed(look_up(row, column)) for column in self.options]
        except Absent as absent:
            there = ", ".join(absent.there) or ", ".join(row)
            raise ConfigError(
                f"{where}: there is no column '{', '.join(self.options)}', which options names. Columns there: {there}."
            ) from None


def _from_messages(taken: dict[str, Any], where: str) -> dict[str, Any]:
    """The values, a question in chat messages as its text; an assistant's answer is the row's `response`."""
    try:
        found = conversation(taken["question"])
    except ValueError as error:
        raise ConfigError(f"{where}: 'question' {error}.") from None
    if found is None:
        return taken
    question, answer = found
    response = {"response": answer} if answer is not None and taken.get("response") is None else {}
    return {**taken, **response, "question": question}


def to_questions(
    records: Iterable[Record], name: str, mapping: RowMapping, domain: str | None = None
) -> list[Question]:
    """Question rows of a data set; `name` begins the ids of rows that have none. `domain` is that of rows which neither
    name one nor have one by the mapping; None: `name`.

    A row whose answer lacks the mark that it should follow gets the answer '', which no verifier can read. Raises
    ConfigError naming the place of a row that lacks a column, is malformed or repeats an id, and of the first one where
    no row's answer has the mark.
    """
    questions, places, unmarked = [], {}, ""
    marked = (mapping.answer_after or mapping.answer_boxed) and not mapping.options
    for number, (where, row) in enumerate(records, 1):
        question = _question(row, where, f"{name}-{number}", domain or name, mapping)
        if question.id in places:
            raise ConfigError(
                f"{where}: the id '{question.id}' stands at {places[question.id]} already. "
                "Give each row an id of its own, or none."
            )
        places[question.id] = where
        questions.append(question)
        if marked and question.answer == "" and not unmarked:
            unmarked = f"{where}: …{str(look_up(row, mapping.columns.get('answer', 'answer')))[-60:]!r}"
    if unmarked and not any(question.answer for question in questions):
        mark = f"{mapping.answer_after!r} (answer_after)" if mapping.answer_after else "\\boxed{…} (answer_boxed)"
        raise ConfigError(
            f"{unmarked}: the answer has no {mark}, and no other row's has. Give the mark that the answers of this "
            "data set have, or none."
        )
    return questions


def _question(row: dict[str, Any], where: str, own_id: str, domain: str, mapping: RowMapping) -> Question:
    given = mapping.taken(row, where)
    if mapping.options:
        given |= _choices(given, mapping.chosen_options(row, where), where, mapping.ask)
    else:
        given["answer"] = _answer(given.get("answer"), mapping)
        if mapping.ask:
            given["ask"] = mapping.ask
    given |= {key: parsed(value) for key, value in given.items() if key not in Question.model_fields}
    _must_be_json(given, where)
    defaults = {
        "id": own_id,
        "domain": mapping.domain or domain,
        "verifier": mapping.verifier or ("choice" if mapping.options else "math"),
        "language": mapping.language,
    }
    for key, value in defaults.items():
        if given.get(key) is None:
            given[key] = value
    given["id"] = _plain(given["id"])
    try:
        question = Question.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "row"
        raise ConfigError(
            f"{where}: '{key}' is {first['input']!r:.80}. {first['msg']}. "
            "A row needs 'question' (text) and 'answer' (text or number; null for general questions)."
        ) from None
    if not question.question.strip():
        raise ConfigError(f"{where}: 'question' is empty. Fill it or remove the row.")
    return question


def _must_be_json(given: dict[str, Any], where: str) -> None:
    """Raises ConfigError for a value, such as a date or bytes, that no file of rows could hold."""
    for key, value in given.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"{where}: '{key}' is {value!r:.60}, of the type {type(value).__name__}, which a row of questions "
                "cannot hold. Name the columns to take in the source's args: {columns: {question: …, answer: …}}."
            ) from None


def _plain(answer: Any) -> Any:
    """A number as text: 72.0 is 72 (a column with gaps holds whole numbers so), and not-a-number is a gap."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return answer
    if isinstance(answer, float) and math.isnan(answer):
        return None
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


def _answer(answer: Any, mapping: RowMapping) -> Any:
    """The final answer in what the answer's column holds; '' where the mark that it should follow is not there."""
    answer = _plain(answer)
    if not isinstance(answer, str):
        return answer
    if mapping.answer_after:
        _, mark, after = answer.rpartition(mapping.answer_after)
        return after.strip() if mark else ""
    if mapping.answer_boxed:
        return (boxed(answer) or [""])[-1]
    return answer


def _choices(given: dict[str, Any], options: list[Any], where: str, ask: str | None) -> dict[str, Any]:
    """The keys of a multiple choice: `choices`, the right one's letter, and how it is asked."""
    answer, labels = given.get("answer"), []
    if len(options) == 1 and isinstance(options[0], dict) and isinstance(options[0].get("text"), list):
        options, labels = [options[0]["text"]], options[0].get("label") or []
    in_order = options if len(options) > 1 and _is_a_place(answer, options) else None
    if len(options) == 1 and isinstance(options[0], list):
        in_order = options[0]
    if in_order is not None:
        choices, right = [str(option) for option in in_order], _index(answer, in_order, labels)
    else:
        choices = [str(option) for option in (_plain(answer), *options) if option is not None]
        random.Random(f"choices {given['question']}").shuffle(choices)
        right = choices.index(str(_plain(answer))) if _plain(answer) is not None else None
    fits = right is not None and 0 <= right < len(choices) and choices.count(choices[right]) == 1
    if not fits or not 2 <= len(choices) <= len(string.ascii_uppercase) or any(isinstance(o, dict) for o in options):
        raise ConfigError(
            f"{where}: the options {choices!s:.120} with the answer {answer!r:.60} are no multiple choice. Expected "
            "2 to 26 options, and an answer that is exactly one of them, its letter, or its number from 0."
        )
    letters = string.ascii_uppercase
    listed = "\n".join(f"({letters[index]}) {choice}" for index, choice in enumerate(choices))
    return {
        "answer": letters[right],
        "choices": choices,
        "ask": f"{ask or '{question}'}\n\n{listed}\n\n{CHOOSE}",
    }


def _is_a_place(answer: Any, options: list[Any]) -> bool:
    """Whether an answer beside several columns of options is the place of one of them and not the right one's text."""
    texts = [str(option).strip() for option in options]
    if isinstance(answer, int) and not isinstance(answer, bool):
        return not any(text.lstrip("-").isdecimal() for text in texts)
    text = str(answer).strip()
    letters = all(len(option) == 1 for option in texts)
    return len(text) == 1 and text.upper() in string.ascii_uppercase and not letters


def _index(answer: Any, options: list[Any], labels: list[Any]) -> int | None:
    """Which option an answer means: its label, its number from 0, its text, or its letter."""
    text = str(answer).strip()
    if text in map(str, labels):
        return [str(label) for label in labels].index(text)
    if isinstance(answer, int) and not isinstance(answer, bool):
        return answer
    if text in map(str, options):
        return [str(option) for option in options].index(text)
    if len(text) == 1 and text.upper() in string.ascii_uppercase:
        return string.ascii_uppercase.index(text.upper())
    return int(text) if text.isdecimal() else None
