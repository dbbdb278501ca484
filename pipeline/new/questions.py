"""Questions as a user names them: files, data sets and tasks, with the columns that hold question and answer."""

import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

from data_recipes.sources import catalogue
from data_recipes.sources.hub import HubArgs, HubUnreachableError, read_hub
from data_recipes.sources.tables import READERS
from pipeline.core.errors import ConfigError
from pipeline.new.models import HUB_NAME

QUESTION = ("question", "problem", "prompt", "instruction", "query", "input", "task")
ANSWER = ("answer", "final_answer", "expected_answer", "gold", "target", "solution", "response", "output", "label")
"""Names of the columns, the most specific first; case is ignored."""
OPTIONS = ("choices", "options")
LOOKED_AT = 20
"""Rows by which the columns are recognised."""
MOST_HELD_OUT = 200
"""Questions of a user's only file that are held out, at most; a tenth of it otherwise."""
GENERATED_HELD_OUT = 128


def question_sources(text: str) -> list[dict[str, Any]]:
    """Each source as a profile has it: `use`, and `args` or `domain` where they are needed.

    Words are paths of files, OWNER/NAME on the Hub, recipes (`countdown`), or sources as a profile names them.
    Raises ConfigError for what is none, and for a file without a column of questions.
    """
    return [_source(word) for word in shlex.split(text)]


def _source(word: str) -> dict[str, Any]:
    path = Path(word)
    kind = Path(path.name.removesuffix(".gz")).suffix.removeprefix(".").lower()
    if word in catalogue.RECIPES or word.partition(":")[0] in (*catalogue.FINITE, "reasoning_gym"):
        use = word
    elif kind in READERS:
        use = f"{kind}:{word}"
    elif HUB_NAME.match(word) and not path.exists():
        use = f"hub:{word}"
    else:
        raise ConfigError(
            f"DATA: '{word}' is no file of questions (.{', .'.join(READERS)}), no OWNER/NAME on the Hub and no source. "
            f"Sources: {', '.join(catalogue.KNOWN)}."
        )
    catalogue.check_source(use)
    args = _mapping(use)
    source: dict[str, Any] = {"use": use, **({"args": args} if args else {})}
    return source if catalogue.is_finite(use) or use in catalogue.RECIPES else {**source, "domain": "reasoning"}


def _mapping(use: str) -> dict[str, Any]:
    """The `args` that a file or a data set needs; {} where its columns have the ladder's names."""
    scheme, _, rest = use.partition(":")
    if scheme == "hub":
        try:
            rows = [row for _, row in read_hub(rest, HubArgs(), LOOKED_AT)]
        except HubUnreachableError:
            return {}
    elif scheme in READERS:
        rows = []
        for _, row in READERS[scheme](Path(rest)):
            rows.append(row)
            if len(rows) == LOOKED_AT:
                break
    else:
        return {}
    rows = [row for row in rows if isinstance(row, dict)]
    return told_columns(rows, use) if rows else {}


def told_columns(rows: list[dict[str, Any]], use: str) -> dict[str, Any]:
    """The `args` for rows of these columns. Raises ConfigError where no column holds questions."""
    there = list(rows[0])
    question, answer = _named(QUESTION, there), _named(ANSWER, there)
    if question is None:
        raise ConfigError(
            f"DATA: {use} has no column of questions that is known by its name. Columns there: {', '.join(there)}. "
            f"Call it {QUESTION[0]}, or write the profile with args: {{columns: {{question: …, answer: …}}}}."
        )
    args: dict[str, Any] = {}
    if question != "question" or answer not in ("answer", None):
        args["columns"] = {"question": question, **({"answer": answer} if answer else {})}
    texts = [str(row.get(answer, "")) for row in rows] if answer else []
    if texts and all(re.search(r"####\s*\S", text) for text in texts):
        args["answer_after"] = "####"
    elif texts and all("\\boxed{" in text and not text.strip().startswith("\\boxed{") for text in texts):
        args["answer_boxed"] = True
    options = _named(OPTIONS, there)
    if options and answer:
        args["options"] = [options]
    return args


def _named(names: tuple[str, ...], there: list[str]) -> str | None:
    lowered = {column.lower(): column for column in there}
    return next((lowered[name] for name in names if name in lowered), None)


def held_out(sources: list[dict[str, Any]], exam: list[dict[str, Any]]) -> tuple[dict[str, Any], int | None, str]:
    """(source, how many questions of it, why) of the evaluation set: the user's exam, else some of the first source,
    which training then leaves out."""
    if exam:
        use = exam[0]["use"]
        return exam[0], None if catalogue.is_finite(use) else GENERATED_HELD_OUT, "your questions for measuring"
    source = {key: value for key, value in sources[0].items() if key != "domain"}
    if not catalogue.is_finite(source["use"]):
        return source, GENERATED_HELD_OUT, "questions of the same kind, none of which is trained on"
    if source["use"].startswith("hub:"):
        return source, GENERATED_HELD_OUT, "drawn from your data, and left out of training"
    count = rows_in([source])
    return source, max(1, min(MOST_HELD_OUT, count // 10)), "a tenth of your file, left out of training"


def rows_in(sources: list[dict[str, Any]]) -> int | None:
    """Rows of local files together; None where a source is no local file."""
    if not all(source["use"].partition(":")[0] in READERS for source in sources):
        return None
    count = 0
    for source in sources:
        file = Path(source["use"].partition(":")[2]).resolve()
        state = (str(file), file.stat().st_mtime_ns) if file.is_file() else ()
        count += _row_count(source["use"], json.dumps(source.get("args", {})), state)
    return count


@cache
def _row_count(use: str, args: str, state: tuple) -> int:
    """Rows of a file in this `state`, which is read once."""
    return len(catalogue.load_finite(use, json.loads(args)))
