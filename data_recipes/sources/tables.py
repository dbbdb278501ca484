"""Reading rows from files as they are, each with the place it stands at: JSON lines, CSV and Parquet."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError
from pipeline.core.files import read_user_lines

LONGEST_CELL = 2**31 - 1
"""Characters of a CSV cell. Python's own limit is 131,072, which a long chain of thought passes."""
Record = tuple[str, dict[str, Any] | ConfigError]
"""Where a row stands (`data/math.csv, line 3`), and its columns, or what is wrong with the row."""


def read_jsonl(path: Path) -> Iterator[Record]:
    return ((f"{path}, line {number}", row) for number, row in read_user_lines(path))


def read_csv(path: Path) -> Iterator[Record]:
    """Rows of a CSV file whose first line names the columns, blanks around a name cut off. An empty cell is None.

    A line number is that of the row's last line: a quoted cell may hold several. A row with other cells than there are
    columns is given as its error. Raises ConfigError where a column's name stands twice.
    """
    _must_be_there(path)
    csv.field_size_limit(LONGEST_CELL)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, strict=True)
            names = _column_names(next(rows, []), path)
            for cells in rows:
                where = f"{path}, line {rows.line_num}"
                if cells and len(cells) != len(names):
                    fault = (
                        f"{where}: {len(cells)} cells, but the first line names {len(names)} columns "
                        f"({', '.join(names)}). Quote cells that hold a comma."
                    )
                    yield where, ConfigError(fault)
                elif cells:
                    yield where, {name: cell or None for name, cell in zip(names, cells, strict=True)}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text: {error}. Save it as UTF-8.") from None
    except csv.Error as error:
        raise ConfigError(f"{path}, line {rows.line_num}: not valid CSV ({error}).") from None


def _column_names(header: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in header]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ConfigError(
            f"{path}, line 1: the column {', '.join(map(repr, doubled))} stands there more than once. Columns there: "
            f"{', '.join(map(repr, header))}. Give each a name of its own."
        )
    return names


def read_parquet(path: Path) -> Iterator[Record]:
    import pyarrow.parquet

    _must_be_there(path)
    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from ((f"{path}, row {number}", row) for number, row in enumerate(rows, 1))
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ConfigError(f"{path} is not a whole Parquet file: {error}") from None


READERS = {"jsonl": read_jsonl, "csv": read_csv, "parquet": read_parquet}


def read_file(path: Path) -> Iterator[Record]:
    """Rows of a file by its ending. Raises ConfigError for another ending."""
    kind = Path(path.name.removesuffix(".gz")).suffix.removeprefix(".").lower()
    if kind not in READERS:
        raise ConfigError(f"{path}: the ending says which format it is; expected .{', .'.join(READERS)}.")
    return READERS[kind](path)


def parsed(value: Any) -> Any:
    """A cell that holds JSON (a list of tests, of choices), read; any other value as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"There is no file {path}. Check the path, which counts from the folder you run in.")
