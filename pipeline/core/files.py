"""Files: JSON lines, hashes, progress, and writes that leave a whole file or none.

JSON lines are UTF-8 with one object a line, and a line ends at a line feed alone: U+2028, U+0085 and their like are
part of a text, and models write them.
"""

import fcntl
import gzip
import hashlib
import json
import os
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from pipeline.core.errors import ConfigError, RunError

TEMPORARY = ".tmp"
"""What a file ends with until it is whole."""
_BLOCK = 1 << 16
OF_A_STAGE = (
    "A run wrote this file, and it is damaged. `make verify` names the damaged stages: put the file back, or move the "
    "stage's folder away and run the stage again."
)
_PROGRESS = "progress.json"


def hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def below(files: dict[str, str], path: str) -> dict[str, str]:
    """Those of the files, by relative path, that are or lie below `path`; all of them for ''."""
    return {name: digest for name, digest in files.items() if f"{name}/".startswith(f"{path}/" if path else "")}


def as_json(value: Any) -> str:
    """A value as JSON for scripts and people: indented, in UTF-8."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def write_durably(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    with _replacing(path) as file:
        file.write(text)


@contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
    """A file to write to that takes the place of `path` once it is whole: temporary name, fsync, rename."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("w", encoding="utf-8", newline="\n") as file:
        yield file
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


def read_json_lines(path: Path, torn: bool = False, advice: str = OF_A_STAGE) -> Iterator[tuple[int, dict]]:
    """Yields (line number, object) of each line of a file that a run has written.

    With `torn` a last line without a line feed is skipped: of a file that grows, it was cut off by a crash, or is still
    being written. Raises RunError naming file and line where the file is missing or damaged, with `advice`.
    """
    try:
        for number, row in _objects(path, torn):
            if isinstance(row, ValueError):
                raise row
            yield number, row
    except ValueError as error:
        raise RunError(f"{error} {advice}") from None


def read_user_json_lines(path: Path) -> Iterator[tuple[int, dict]]:
    """Yields (line number, object) of each non-empty line of a user's file, compressed where its name ends in `.gz`.

    Raises ConfigError naming file and line, and how to mend it.
    """
    for number, row in read_user_lines(path):
        if isinstance(row, ConfigError):
            raise row
        yield number, row


def read_user_lines(path: Path) -> Iterator[tuple[int, dict | ConfigError]]:
    """As `read_user_json_lines`, but a line that is no object is given as its error, and the others follow."""
    try:
        for number, row in _objects(path, torn=False):
            yield number, ConfigError(str(row)) if isinstance(row, ValueError) else row
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _objects(path: Path, torn: bool) -> Iterator[tuple[int, dict | ValueError]]:
    """(line number, object, or what is wrong with the line). Raises ValueError for a file that cannot be read.

    An error says a whole sentence. A byte order mark, as editors on Windows write it, is no text.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, raw in enumerate(file, 1):  # a binary file ends its lines at \n, and at nothing else
                if torn and not raw.endswith(b"\n"):
                    return
                if raw.strip():
                    yield number, _object(raw.removeprefix(BOM_UTF8) if number == 1 else raw, path, number)
    except FileNotFoundError:
        raise ValueError(f"There is no file {path}. Check the path, which counts from the folder you run in.") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ValueError(f"{path} cannot be read: {reason}. Give the path of a file that is whole.") from None


def _object(raw: bytes, path: Path, number: int) -> dict | ValueError:
    try:
        line = raw.decode()
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return ValueError(f"{path} is not UTF-8 text: line {number}: {error}. Save it as UTF-8.")
    except (ValueError, RecursionError) as error:
        return ValueError(
            f"{path} line {number}: not valid JSON ({error}). Expected one object a line, but {line[:80]!r} is not "
            "JSON."
        )
    if not isinstance(row, dict):
        return ValueError(f"{path} line {number}: expected an object {{…}}, got {line[:80]!r}.")
    return row


def json_line(row: Any) -> str:
    """A value as one line of JSON. Half of a surrogate pair, which UTF-8 cannot hold, is written as an escape."""
    line = json.dumps(row, ensure_ascii=False)
    return (line if line.isascii() or _is_unicode(line) else json.dumps(row)) + "\n"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def write_json_lines(path: Path, rows: Iterable[dict]) -> int:
    """Writes rows, the whole file durably or nothing, and returns how many."""
    count = 0
    with _replacing(path) as file:
        for row in rows:
            file.write(json_line(row))
            count += 1
    return count


def append_json_line(path: Path, row: dict) -> None:
    """Appends a whole line and waits until it is on the disk. A torn last line, which a crash left, is cut off before.

    Several processes may append to one file.
    """
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _cut_torn_line(file)
        file.write(json_line(row).encode())
        file.flush()
        os.fsync(file.fileno())


def _cut_torn_line(file: BinaryIO) -> None:
    end = kept = file.seek(0, os.SEEK_END)
    while kept:
        start = max(0, kept - _BLOCK)
        file.seek(start)
        whole = file.read(kept - start).rfind(b"\n") + 1
        if whole:
            kept = start + whole
            break
        kept = start
    if kept < end:
        file.truncate(kept)


def write_progress(partial: Path, done: int, total: int | None, unit: str) -> None:
    write_durably(partial / _PROGRESS, json.dumps({"done": done, "total": total, "unit": unit}) + "\n")


def read_progress(partial: Path) -> dict | None:
    """The progress of a partial stage; None if it has written none, or if that file is damaged."""
    try:
        found = json.loads((partial / _PROGRESS).read_text(encoding="utf-8"))
        return {key: found[key] for key in ("done", "total", "unit")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
