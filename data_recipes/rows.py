"""The question row, and reading and writing rows as JSON lines."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError
from pipeline.strict import Strict


class Question(Strict):
    """One question. Keys beside these (`numbers`, `target`, `tests`, …) are kept and reach the verifier."""

    model_config = ConfigDict(extra="allow")

    id: str = Field(min_length=1)
    domain: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str | None
    """What the verifier compares with; None where no rule can tell (general questions)."""
    verifier: str
    language: str = "en"
    response: str | None = None
    """A whole reference answer, for SFT rows that are not sampled."""

    def columns(self) -> dict[str, Any]:
        """The row as a reward function gets it, one column each."""
        return self.model_dump()


def read_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """(line number, object) of each non-empty line. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"There is no file {path}. Check the path, which counts from the folder you run in."
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: not valid JSON ({error}): {line[:80]!r}") from None
        if not isinstance(row, dict):
            raise ConfigError(f"{path}, line {number}: expected an object {{…}}, got {line[:80]!r}")
        yield number, row


def read_questions(path: Path) -> list[Question]:
    """Question rows of a JSON lines file; `id`, `domain`, `verifier` and `language` may be left out.

    Raises ConfigError naming the file and the line of an empty or malformed row, of an id that stands twice, and of
    a file without rows.
    """
    questions, lines_of = [], {}
    for number, row in read_json_lines(path):
        filled = {"id": f"{path.stem}-{number}", "domain": path.stem, "answer": None, "verifier": "math", **row}
        if isinstance(filled["answer"], int | float) and not isinstance(filled["answer"], bool):
            filled["answer"] = str(filled["answer"])
        try:
            question = Question.model_validate(filled)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "row"
            raise ConfigError(
                f"{path}, line {number}: '{key}' is {first['input']!r:.80}. {first['msg']}. "
                "A row needs 'question' (text) and 'answer' (text or number; null for general questions)."
            ) from None
        if not question.question.strip():
            raise ConfigError(f"{path}, line {number}: 'question' is empty. Fill it or remove the line.")
        if question.id in lines_of:
            raise ConfigError(
                f"{path}, line {number}: the id '{question.id}' stands on line {lines_of[question.id]} already. "
                "Give each row an id of its own, or none."
            )
        lines_of[question.id] = number
        questions.append(question)
    if not questions:
        raise ConfigError(f"{path} holds no rows. Expected one JSON object a line.")
    return questions


def write_json_lines(path: Path, rows: Iterable[dict]) -> int:
    """Writes rows and returns how many."""
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count
