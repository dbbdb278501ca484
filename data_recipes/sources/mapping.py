"""From the columns of somebody's data set to question rows."""

import json
import logging
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError, model_validator

from data_recipes.question import Question
from data_recipes.sources.choices import multiple_choice, plain
from data_recipes.sources.nested import Absent, conversation, look_up
from data_recipes.sources.tables import Record, parsed
from pipeline.config.data import Template
from pipeline.core.console import LOGGER
from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict
from rewards.columns import taken_names
from rewards.grading.answers import boxed


class RowMapping(Strict):
    """How a data set becomes question rows."""

    columns: dict[str, str] = {}
    """Row key -> column of the data set: `{question: problem, answer: solution}`. Only these columns are taken, and a
    `question` column where none is named. Empty: every column, under its own name. A value inside a column has a dotted
    name: `{answer: reward_model.ground_truth}`. A question may be a list of chat messages with one turn."""
    options: list[str] = []
    """Columns of a multiple choice: the wrong options where `answer` is the right one's text (they are shuffled, each
    row always the same way); all options in their order where it is a letter, a column's name or a number from 0; or
    the one column that lists all of them: a list, `{A: …, B: …}`, ARC's `{text: […], label: […]}`, or their text."""
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
        found = []
        for column in self.options:
            try:
                found.append(parsed(look_up(row, column)))
            except Absent as absent:
                there = ", ".join(absent.there) or ", ".join(row)
                raise ConfigError(
                    f"{where}: there is no column '{column}', which options names. Columns there: {there}."
                ) from None
        return found


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
    records: Iterable[Record],
    name: str,
    mapping: RowMapping,
    domain: str | None = None,
    left_out: list[str] | None = None,
    most_left_out: float = 0.005,
) -> list[Question]:
    """Question rows of a data set; `name` begins the ids of rows that have none. `domain` is that of rows which neither
    name one nor have one by the mapping; None: `name`.

    A row whose answer lacks the mark that it should follow gets the answer '', which no verifier can read. A row that
    lacks a column, is malformed or repeats an id is left out with a warning, and what is wrong with it is added to
    `left_out`. Raises ConfigError naming the place of the first such row where their share is over `most_left_out`,
    since then the file is at fault; and of the first one where no row's answer has the mark.
    """
    questions, places, unmarked = [], {}, ""
    faults: list[ConfigError] = []
    number = 0
    marked = (mapping.answer_after or mapping.answer_boxed) and not mapping.options
    for number, (where, row) in enumerate(records, 1):
        try:
            question = _question(row, where, f"{name}-{number}", domain or name, mapping)
            if question.id in places:
                raise ConfigError(
                    f"{where}: the id '{question.id}' stands at {places[question.id]} already. "
                    "Give each row an id of its own, or none."
                )
        except ConfigError as fault:
            faults.append(fault)
            continue
        places[question.id] = where
        questions.append(question)
        if marked and question.answer == "" and not unmarked:
            unmarked = f"{where}: …{str(look_up(row, mapping.columns.get('answer', 'answer')))[-60:]!r}"
    if faults:
        if len(faults) > most_left_out * number:
            raise faults[0]
        log = logging.getLogger(LOGGER)
        log.warning("%d of %d rows are left out, as they cannot be read. The first: %s", len(faults), number, faults[0])
        if left_out is not None:
            left_out += map(str, faults)
    if unmarked and not any(question.answer for question in questions):
        mark = f"{mapping.answer_after!r} (answer_after)" if mapping.answer_after else "\\boxed{…} (answer_boxed)"
        raise ConfigError(
            f"{unmarked}: the answer has no {mark}, and no other row's has. Give the mark that the answers of this "
            "data set have, or none."
        )
    return questions


def _question(row: dict[str, Any] | ConfigError, where: str, own_id: str, domain: str, mapping: RowMapping) -> Question:
    if isinstance(row, ConfigError):
        raise row
    given = mapping.taken(row, where)
    if mapping.options:
        cells = mapping.chosen_options(row, where)
        given |= multiple_choice(
            given.get("answer"), cells, mapping.options, where, mapping.ask, str(given["question"])
        )
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
    given["id"] = plain(given["id"])
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


def _answer(answer: Any, mapping: RowMapping) -> Any:
    """The final answer in what the answer's column holds; '' where the mark that it should follow is not there."""
    answer = plain(answer)
    if not isinstance(answer, str):
        return answer
    if mapping.answer_after:
        _, mark, after = answer.rpartition(mapping.answer_after)
        return after.strip() if mark else ""
    if mapping.answer_boxed:
        return (boxed(answer) or [""])[-1]
    return answer
