"""The figures of a training: `metrics.jsonl`, one line a step."""

import json
import math
import os
from pathlib import Path

from pipeline.core.files import write_durably

METRICS = "metrics.jsonl"


def write_lines(path: Path, rows: list[dict]) -> None:
    """Writes a JSON lines file whole or not at all."""
    write_durably(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_records(path: Path) -> list[dict]:
    """The objects of a JSON lines file, none where there is no file. A line cut off by a crash is dropped."""
    return [json.loads(line) for line in _lines(path)]


def append_record(path: Path, record: dict) -> None:
    """A whole line, on the disk, so that no checkpoint is ahead of its figures. What is not finite becomes null."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(finite_or_null(record), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def forget_later_steps(path: Path, step: int) -> None:
    """Drops from a `metrics.jsonl` what an interrupted run wrote after the step that it is resumed from."""
    if path.is_file():
        write_lines(path, [record for record in read_records(path) if record["step"] <= step])


def _lines(path: Path) -> list[str]:
    """Whole lines; a line cut off by a crash is dropped."""
    if not path.exists():
        return []
    text = path.read_text()
    return [line for line in text[: text.rfind("\n") + 1].splitlines() if line]


def finite_or_null(value):
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
