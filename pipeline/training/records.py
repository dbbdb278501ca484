"""The figures of a training: `metrics.jsonl`, one line a step."""

import math
from pathlib import Path
from typing import Any

from pipeline.core.files import append_json_line, read_json_lines, write_json_lines

METRICS = "metrics.jsonl"


def read_records(path: Path) -> list[dict]:
    """The objects of a file that grows by a line at a time, none where there is no file."""
    return [record for _, record in read_json_lines(path, torn=True)] if path.exists() else []


def append_record(path: Path, record: dict) -> None:
    """A whole line, on the disk, so that no checkpoint is ahead of its figures. What is not finite becomes null."""
    append_json_line(path, finite_or_null(record))


def forget_later_steps(path: Path, step: int) -> None:
    """Drops from a `metrics.jsonl` what an interrupted run wrote after the step that it is resumed from."""
    if path.is_file():
        write_json_lines(path, [record for record in read_records(path) if record["step"] <= step])


def finite_or_null(value: Any) -> Any:
    """The value, with null in place of each number that is not finite, in the objects and lists in it too."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
