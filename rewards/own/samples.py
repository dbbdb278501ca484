"""Sample rows for trying a reward, and reading a user's own."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.files import read_user_json_lines
from rewards.columns import as_columns
from rewards.contract import RewardError
from rewards.response import text_of

_SUM = {"question": "What is 12 + 5 - 3 ?", "verifier": "exact", "answer": "14", "domain": "math", "language": "en"}
_ROOT = {"question": "Simplify the square root of 12.", "verifier": "math", "answer": "2\\sqrt{3}", "domain": "math"}
_CITY = {
    "question": "Which city is the capital of France? (A) Rome (B) Paris (C) Bonn",
    "verifier": "choice",
    "answer": "B",
    "domain": "stem",
}
_REACH = {
    "question": "Reach 16 from 3, 5 and 2.",
    "verifier": "countdown",
    "numbers": [3, 5, 2],
    "target": 16,
    "answer": "(3 + 5) * 2",
    "domain": "logic",
}
_POEM = {"question": "Write one line about the sea.", "verifier": None, "answer": None, "domain": "general"}

SAMPLES: tuple[tuple[dict[str, Any], str], ...] = (
    (_SUM, "<think> First 12 + 5 = 17 . then 17 - 3 = 14 . </think> <answer> 14 </answer>"),
    (_SUM, "<think> First 12 + 5 = 17 . then 17 - 3 = 13 . </think> <answer> 13 </answer>"),
    (_SUM, "<think> 先算 12 + 5 = 17 . 再算 17 - 3 = 14 . </think> The answer is 14 ."),
    (_SUM, "<think> The answer is 14 . wait , check . wait , check . wait , check ."),
    (_SUM, "14"),
    (_ROOT, "<think> 12 is 4 times 3, so the root is twice that of 3. </think> <answer> $2\\sqrt 3$ </answer>"),
    (_ROOT, "<think> Four times three. </think> <answer> \\boxed{2\\sqrt3} or \\boxed{\\sqrt3} </answer>"),
    (_CITY, "<think> Rome is in Italy, Bonn in Germany. </think> The answer is (B)."),
    (_CITY, "<think> Not sure. </think> <answer> A or B </answer>"),
    (_REACH, "<think> Eight times two is sixteen. </think> <answer> (3 + 5) * 2 = 16 </answer>"),
    (_REACH, "<think> Use eight twice. </think> <answer> 8 + 8 </answer>"),
    (_POEM, "<think> The sea is wide and old. </think> The sea keeps what the river says."),
    (_POEM, ""),
)


def columns_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Rows as the columns that a reward is called with; words stand in for tokens where no `completion_ids` are."""
    columns = {name: values for name, values in as_columns(rows).items() if name not in ("prompt", "completion")}
    columns["prompts"] = [row.get("prompt", row.get("question") or "") for row in rows]
    columns["completions"] = [row["completion"] for row in rows]
    given = columns.get("completion_ids") or [None] * len(rows)
    columns["completion_ids"] = [
        word_ids(row["completion"]) if ids is None else ids for row, ids in zip(rows, given, strict=True)
    ]
    return columns


def word_ids(completion: Any) -> list[int]:
    return [zlib.crc32(word.encode(errors="replace")) for word in text_of(completion).split()]


def sample_rows() -> list[dict[str, Any]]:
    """Right and wrong completions in both shapes, over the verifiers that need no set-up."""
    return [
        {"id": f"sample-{number}", "language": "en"} | row | {"completion": completion}
        for number, (row, completion) in enumerate(SAMPLES)
    ]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows from a JSONL file: a `completion` each, and the columns that the reward needs."""
    try:
        rows = [checked_row(row, f"{path} line {number}") for number, row in read_user_json_lines(path)]
    except ConfigError as error:
        raise RewardError(str(error)) from error
    if not rows:
        raise RewardError(f"{path} holds no rows")
    return rows


def checked_row(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise RewardError(f"{where}: a {type(row).__name__}; expected an object with a completion and its columns")
    completion = row.get("completion")
    messages = isinstance(completion, list) and all(isinstance(message, dict) for message in completion)
    if not isinstance(completion, str) and not messages:
        raise RewardError(f"{where}: completion is {completion!r}; expected a text or a list of chat messages")
    return row
