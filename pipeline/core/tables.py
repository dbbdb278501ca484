"""Tables for terminals of any width: no figure is cut, no row broken.

Where a table is wider than the terminal, columns of text fold at words. Where that is not enough its columns are set
out in several tables below each other, each with the columns that name a row in front. A column in which nothing stands
is left out.
"""

import os
from collections.abc import Sequence

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Column, Table

MOST_COLUMNS = 400
"""Columns of what is no terminal, such as a file or a pipe: there a table is as wide as it needs to be."""


UNBOUNDED = 1_000_000


def standard_output() -> Console:
    """Standard output, where what is printed is no markup."""
    console = Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = MOST_COLUMNS
    return console


def print_table(table: Table, keys: int = 1, console: Console | None = None) -> None:
    """Prints the table on standard output. Its first `keys` columns name a row."""
    console = console or standard_output()
    for line in fitted(table, console, keys):
        console.file.write(line + "\n")


def fitted(table: Table, console: Console, keys: int = 1) -> list[str]:
    """The lines of the table, none longer than the console is wide."""
    width, lines = console.width, []
    for number, part in enumerate(_parts(table, width, keys, console)):
        part.title = table.title if number == 0 else None
        with console.capture() as captured:
            console.print(part)
        lines += [line.rstrip() for line in captured.get().splitlines()]
    return lines


def _parts(table: Table, width: int, keys: int, console: Console) -> list[Table]:
    """The table with its columns as wide as they may be; or several, each with some of its columns."""
    ranges = [_range(column, table, console) for column in table.columns]
    frame = _measured(table, console).maximum - sum(most for _, most in ranges)
    each = frame / max(1, len(ranges))  # what borders and blanks take, a column

    def room(places: Sequence[int]) -> int:
        return width - round(each * len(places) + 1)

    named, groups = list(range(min(keys, len(ranges)))), [[]]
    for place in range(len(named), len(ranges)):
        if table.row_count and not any(map(str, table.columns[place].cells)):
            continue  # nothing stands in it
        if groups[-1] and sum(ranges[p][0] for p in (*named, *groups[-1], place)) > room([*named, *groups[-1], place]):
            groups.append([])
        groups[-1].append(place)
    return [_with_widths(table, [*named, *group], ranges, room([*named, *group])) for group in groups]


def _range(column: Column, table: Table, console: Console) -> tuple[int, int]:
    """(fewest, most) characters that the column needs: its longest word, its longest line."""
    cells = [_measured(cell, console) for cell in column.cells]
    if table.show_header and column.header:
        cells.append(_measured(column.header, console))
    most = max((cell.maximum for cell in cells), default=1)
    return (most if column.no_wrap else max((cell.minimum for cell in cells), default=1)), most


def _measured(what: RenderableType, console: Console) -> Measurement:
    return Measurement.get(console, console.options.update(width=UNBOUNDED), what)


def _with_widths(table: Table, places: list[int], ranges: list[tuple[int, int]], room: int) -> Table:
    """These columns alone. Each has what it cannot do without; what room is left goes to those that would fold most."""
    widths = [ranges[place][0] for place in places]
    while sum(widths) > max(room, len(widths)):  # a word is longer than the terminal is wide: it is broken
        widths[widths.index(max(widths))] -= 1
    while sum(widths) < room and (short := [i for i, place in enumerate(places) if widths[i] < ranges[place][1]]):
        widths[min(short, key=lambda i: widths[i] / ranges[places[i]][1])] += 1
    part = Table(
        box=table.box, title_justify=table.title_justify, title_style=table.title_style, show_header=table.show_header,
        show_lines=table.show_lines, header_style=table.header_style,
    )  # fmt: skip
    for place, width in zip(places, widths, strict=True):
        column = table.columns[place]
        part.add_column(column.header, justify=column.justify, style=column.style, width=width, overflow="fold")
    for cells in zip(*(table.columns[place].cells for place in places), strict=True):
        part.add_row(*cells)
    return part
