"""Files: JSON lines, hashes, progress, and writes that leave a whole file or none."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError

TEMPORARY = ".tmp"
"""What a file ends with until it is whole."""
_PROGRESS = "progress.json"


def hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def below(files: dict[str, str], path: str) -> dict[str, str]:
    """Those of the files, by relative path, that are or lie below `path`; all of them for ''."""
    return {name: digest for name, digest in files.items() if f"{name}/".startswith(f"{path}/" if path else "")}


def write_durably(path: Path, text: str) -> None:
    """Writes a whole file or nothing: temporary name, fsync, rename."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(parent))


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


def write_progress(partial: Path, done: int, total: int | None, unit: str) -> None:
    write_durably(partial / _PROGRESS, json.dumps({"done": done, "total": total, "unit": unit}) + "\n")


def read_progress(partial: Path) -> dict | None:
    """How far a partial stage is; None where it has not said, or where what it said is damaged."""
    try:
        found = json.loads((partial / _PROGRESS).read_text(encoding="utf-8"))
        return {key: found[key] for key in ("done", "total", "unit")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
