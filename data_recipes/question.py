"""The question row, and rows as JSON lines."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field

from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict


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
    ask: str | None = None
    """How the question is put to the model, with `{question}`; None asks it as it is."""

    @property
    def asked(self) -> str:
        return asked(self.question, self.ask)

    @property
    def whole(self) -> str:
        """The question, and where it does not say them itself its choices, numbers and target: what tells it from
        another in the same words."""
        row = self.columns()
        parts = [row.get("choices") or [], row.get("numbers") or [], [row.get("target")]]
        told = [str(one) for part in parts if isinstance(part, list | tuple) for one in part if one is not None]
        return " ".join([self.question, *(one for one in told if one not in self.question)])

    def columns(self) -> dict[str, Any]:
        """The row as a reward function gets it, one column each."""
        return self.model_dump()


def asked(question: str, ask: str | None) -> str:
    """The question as the model gets it."""
    return question if ask is None else ask.replace("{question}", question, 1)


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
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}. Give the path of a file.") from None
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


def write_json_lines(path: Path, rows: Iterable[dict]) -> int:
    """Writes rows, the whole file or nothing, and returns how many."""
    count = 0
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    temporary.replace(path)
    return count
