"""The figures of a training: `metrics.jsonl`, one line a step."""

import math
from pathlib import Path
from typing import Any

from pipeline.core.files import append_json_line, read_json_lines, write_json_lines

METRICS = "metrics.jsonl"


def read_records(path: Path) -> list[dict]:
    """Read the objects of a JSON lines file that may still grow; [] if there is none."""
    return [record for _, record in read_json_lines(path, torn=True)] if path.exists() else []


def append_record(path: Path, record: dict) -> None:
    """Append a line and sync it to disk, so that no checkpoint is ahead of it. Non-finite numbers become null."""
    append_json_line(path, finite_or_null(record))


def forget_later_steps(path: Path, step: int) -> None:
    """Drop from `metrics.jsonl` the steps that an interrupted run made after `step`."""
    if path.is_file():
        write_json_lines(path, [record for record in read_records(path) if record["step"] <= step])


def finite_or_null(value: Any) -> Any:
    """Replace every non-finite number in the value, at any depth, by null."""
    if isinstance(value, dict):
        return {key: finite_or_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite_or_null(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
