"""From the columns of somebody's data set to question rows."""

import random
import string
from collections.abc import Iterable
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from data_recipes.rows import Question
from data_recipes.tables import Record, parsed
from pipeline.errors import ConfigError
from pipeline.strict import Strict
from rewards.answers import boxed

CHOOSE = "Answer with the letter of the right choice."


class RowMapping(Strict):
    """How a data set becomes question rows."""

    columns: dict[str, str] = {}
    """Row key -> column of the data set: `{question: problem, answer: solution}`. Only these columns are taken, and a
    `question` column where none is named. Empty: every column, under its own name."""
    options: list[str] = []
    """Columns of a multiple choice: the wrong options where `answer` is the right one's text (they are shuffled, each
    row always the same way), or the one column that lists all of them where `answer` is a letter or a number from 0."""
    answer_after: str | None = Field(None, min_length=1)
    """The answer is what follows the last of this text in the answer's column: `####` in GSM8K."""
    answer_boxed: bool = False
    """The answer is the last `\\boxed{…}` in the answer's column."""
    verifier: str | None = None
    """Who compares; None: `choice` with options, else `math`. A column of that name goes before."""
    domain: str | None = None
    language: str = "en"
    ask: str | None = None
    """How each question is put to the model, with `{question}`."""

    @field_validator("ask")
    @classmethod
    def _has_a_question(cls, text: str | None) -> str | None:
        if text is not None and text.count("{question}") != 1:
            raise ValueError(f"{text!r} should hold {{question}} exactly once")
        return text

    @model_validator(mode="after")
    def _one_way_to_the_answer(self) -> "RowMapping":
        if self.answer_after and self.answer_boxed:
            raise ValueError(f"answer_after {self.answer_after!r} and answer_boxed exclude each other: keep one")
        return self

    def taken(self, row: dict[str, Any], where: str) -> dict[str, Any]:
        """The row's values under the keys of a question row. Raises ConfigError where a column is missing."""
        wanted = {"question": "question", **self.columns} if self.columns else {key: key for key in row}
        for key, column in wanted.items():
            if column not in row:
                raise ConfigError(
                    f"{where}: there is no column '{column}' to take '{key}' from. Columns there: {', '.join(row)}. "
                    f"Name the right one in the source's args: {{columns: {{{key}: …}}}}."
                )
        if "question" not in wanted:
            raise ConfigError(
                f"{where}: there is no 'question'. Columns there: {', '.join(row)}. Name the one that holds it in the "
                "source's args: {columns: {question: …, answer: …}}."
            )
        for column in self.options:
            if column not in row:
                raise ConfigError(
                    f"{where}: there is no column '{column}', which options names. Columns there: {', '.join(row)}."
                )
        return {key: row[column] for key, column in wanted.items()}


def to_questions(records: Iterable[Record], name: str, mapping: RowMapping) -> list[Question]:
    """Question rows of a data set; `name` is the domain and begins the ids of rows that have none.

    Raises ConfigError naming the place of a row that lacks a column, is malformed, has an answer without the mark that
    it should follow, or repeats an id.
    """
    questions, places = [], {}
    for number, (where, row) in enumerate(records, 1):
        question = _question(row, where, f"{name}-{number}", name, mapping)
        if question.id in places:
            raise ConfigError(
                f"{where}: the id '{question.id}' stands at {places[question.id]} already. "
                "Give each row an id of its own, or none."
            )
        places[question.id] = where
        questions.append(question)
    return questions


def _question(row: dict[str, Any], where: str, own_id: str, name: str, mapping: RowMapping) -> Question:
    given = mapping.taken(row, where)
    given["answer"] = _answer(given.get("answer"), where, mapping)
    if mapping.options:
        given |= _choices(given, [parsed(row[column]) for column in mapping.options], where, mapping.ask)
    elif mapping.ask:
        given["ask"] = mapping.ask
    defaults = {
        "id": own_id,
        "domain": mapping.domain or name,
        "verifier": mapping.verifier or ("choice" if mapping.options else "math"),
        "language": mapping.language,
    }
    for key, value in defaults.items():
        if given.get(key) is None:
            given[key] = value
    given["id"] = str(given["id"]) if isinstance(given["id"], int) else given["id"]
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


def _answer(answer: Any, where: str, mapping: RowMapping) -> Any:
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, str):
        return answer
    if mapping.answer_after:
        _, mark, after = answer.rpartition(mapping.answer_after)
        if not mark:
            raise ConfigError(
                f"{where}: the answer has no {mapping.answer_after!r} (answer_after): …{answer[-60:]!r}. "
                "Give the mark that the answers of this data set have, or leave answer_after out."
            )
        return after.strip()
    if mapping.answer_boxed:
        found = boxed(answer)
        if not found:
            raise ConfigError(f"{where}: the answer has no \\boxed{{…}} (answer_boxed): …{answer[-60:]!r}.")
        return found[-1]
    return answer


def _choices(given: dict[str, Any], options: list[Any], where: str, ask: str | None) -> dict[str, Any]:
    """The keys of a multiple choice: `choices`, the right one's letter, and how it is asked."""
    answer = given["answer"]
    if len(options) == 1 and isinstance(options[0], list):
        choices, right = [str(option) for option in options[0]], _index(answer, options[0])
    else:
        choices = [str(option) for option in (answer, *options) if option is not None]
        random.Random(f"choices {given['question']}").shuffle(choices)
        right = choices.index(str(answer)) if answer is not None else None
    if right is None or right >= len(choices) or choices.count(choices[right]) > 1 or len(choices) < 2:
        raise ConfigError(
            f"{where}: the options {choices!s:.120} with the answer {answer!r:.60} are no multiple choice. Expected "
            "two options or more, and an answer that is exactly one of them, its letter, or its number from 0."
        )
    letters = string.ascii_uppercase
    listed = "\n".join(f"({letters[index]}) {choice}" for index, choice in enumerate(choices))
    return {
        "answer": letters[right],
        "choices": choices,
        "ask": f"{ask or '{question}'}\n\n{listed}\n\n{CHOOSE}",
    }


def _index(answer: Any, options: list[Any]) -> int | None:
    """Which option an answer means: its text, its letter, or its number from 0."""
    text = str(answer).strip()
    if text in map(str, options):
        return [str(option) for option in options].index(text)
    if len(text) == 1 and text.upper() in string.ascii_uppercase:
        return string.ascii_uppercase.index(text.upper())
    return int(text) if text.isdecimal() else None
