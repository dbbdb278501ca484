"""A multiple choice from the columns of somebody's data set: its options in their order, and which one is right."""

import ast
import math
import random
import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.core.errors import ConfigError

CHOOSE = "Answer with the letter of the right choice."
LETTERS = string.ascii_uppercase
LABELLED = re.compile(r"\s*[(\[]?(?P<label>[A-Za-z])[)\].:、．]\s*(?P<text>\S.*)", re.DOTALL)
CUT_AT = re.compile(r"(?:^|[\s;,，；])[(\[]?(?P<label>[A-Z])[)\].:、．]\s*")
QUOTED = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
A_LETTER = re.compile(
    r"(?:option|choice|answer|选项)?\s*[(\[]?\s*(?P<letter>[A-Za-z])\s*[)\]]?\s*[.:)]?", re.IGNORECASE
)


def multiple_choice(
    answer: Any, cells: Sequence[Any], names: Sequence[str], where: str, ask: str | None, question: str
) -> dict[str, Any]:
    """The keys of a question with choices: `choices`, the right one's letter as `answer`, and how it is asked.

    `cells` are the values of the columns `names`: one that lists all options, or one option each. Raises ConfigError
    where they are no options or the answer names none of them.
    """
    labels: list[str] = []
    if len(cells) == 1:
        options, labels = listed(cells[0])
        right = place(answer, options, labels, ()) if options else None
    else:
        options = [plain(cell) for cell in cells if plain(cell) is not None]
        options = [str(option) for option in options]
        right = place(answer, options, [], names) if is_a_place(answer, options, names) else None
        if right is None and plain(answer) is not None and not any(isinstance(cell, dict | list) for cell in cells):
            options = [str(plain(answer)), *options]  # the columns hold the wrong ones
            random.Random(f"choices {question}").shuffle(options)
            right = options.index(str(plain(answer)))
    options = without_labels(options)
    fits = right is not None and 0 <= right < len(options) and options.count(options[right]) == 1
    if not fits or not 2 <= len(options) <= len(LETTERS):
        given = str(options or list(cells))
        raise ConfigError(
            f"{where}: the options {given:.120} with the answer {answer!r:.60} are no multiple choice. Expected 2 to "
            "26 options as columns of their own, or one column with a list, a mapping of letters, or a text with the "
            "letters A, B, …; and an answer that is one of them, its letter, or its number from 0."
        )
    shown = "\n".join(f"({LETTERS[index]}) {option}" for index, option in enumerate(options))
    return {
        "answer": LETTERS[right],
        "choices": options,
        "ask": f"{ask or '{question}'}\n\n{shown}\n\n{CHOOSE}",
    }


def plain(answer: Any) -> Any:
    """A number as text: 72.0 is 72 (a column with gaps holds whole numbers so), and not-a-number is a gap."""
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        return answer
    if isinstance(answer, float) and math.isnan(answer):
        return None
    return str(int(answer)) if isinstance(answer, float) and answer.is_integer() else str(answer)


def listed(cell: Any) -> tuple[list[str], list[str]]:
    """All options of one cell and their labels, if it has any; nothing where it is no list of options."""
    if isinstance(cell, str):
        cell = from_text(cell)
    if isinstance(cell, Mapping):
        texts = cell.get("text", cell.get("texts"))
        if isinstance(texts, list | tuple):
            labels = cell.get("label") or cell.get("labels") or []
            return [str(plain(text)) for text in texts], [str(label) for label in labels]
        if all(not isinstance(value, dict | list | tuple) for value in cell.values()):
            present = {str(key): plain(value) for key, value in cell.items() if plain(value) is not None}
            return [str(value) for value in present.values()], list(present)
        return [], []
    if isinstance(cell, list | tuple) and not any(isinstance(option, dict | list) for option in cell):
        return [str(plain(option)) for option in cell], []
    return [], []


def from_text(text: str) -> Any:
    """The list, or the mapping, that a cell of text holds; None where it holds none."""
    stripped = text.strip()
    if stripped[:1] in ("[", "(", "{"):
        quoted = [one or other for one, other in QUOTED.findall(stripped)]
        between = QUOTED.sub("", stripped)
        if stripped[0] == "[" and len(quoted) > 1 and re.fullmatch(r"\[[\s]*\]", between):
            return quoted  # as numpy prints a list: without commas
        try:
            return ast.literal_eval(stripped)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    cuts = list(CUT_AT.finditer(stripped))
    letters = [cut["label"] for cut in cuts]
    if len(cuts) > 1 and letters == list(LETTERS[: len(cuts)]) and not stripped[: cuts[0].start()].strip():
        ends = [cut.start() for cut in cuts[1:]] + [len(stripped)]
        return [stripped[cut.end() : end].strip(" \n\t;,") for cut, end in zip(cuts, ends, strict=True)]
    for mark in ("|", "\n"):
        parts = [part.strip() for part in stripped.split(mark) if part.strip()]
        if len(parts) > 1:
            return parts
    return None


def without_labels(options: list[str]) -> list[str]:
    """The options without letters of their own, where all have them in order: they are shown with letters anyway."""
    matches = [LABELLED.fullmatch(option) for option in options]
    if not all(matches) or [match["label"].upper() for match in matches] != list(LETTERS[: len(options)]):
        return options
    return [match["text"] for match in matches]


def is_a_place(answer: Any, options: Sequence[str], names: Sequence[str]) -> bool:
    """Whether an answer beside several columns of options is the place of one of them and not the right one's text."""
    text = str(plain(answer)).strip()
    texts = [option.strip() for option in options]
    if text in names and text not in texts:
        return True
    if re.fullmatch(r"[0-9]+", text):
        return text in texts or not any(option.lstrip("-").isdecimal() for option in texts)
    letters = all(len(option) == 1 for option in texts)
    return bool(A_LETTER.fullmatch(text)) and not letters


def place(answer: Any, options: Sequence[str], labels: Sequence[str], names: Sequence[str]) -> int | None:
    """Which option an answer means: its label, its text, its column's name, its letter, or its number from 0."""
    text = str(plain(answer)).strip()
    if text in labels:
        return list(labels).index(text)
    if isinstance(answer, int | float) and not isinstance(answer, bool) and text.isdecimal():
        return int(text)
    if text.isdecimal() and text in options and int(text) < len(options) and options[int(text)] != text:
        return None  # one option's text and another one's number
    for known in (list(options), without_labels(list(options)), list(names)):
        if text in known:
            return known.index(text)
    letter = A_LETTER.fullmatch(text)
    if letter and not (labels and letter["letter"] in labels):
        return LETTERS.index(letter["letter"].upper())
    if letter:
        return list(labels).index(letter["letter"])
    return int(text) if text.isdecimal() else None
