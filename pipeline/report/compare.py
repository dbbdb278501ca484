"""Two or more runs side by side: differences in configuration, and in results.

    make compare RUNS="pocket-seed0 pocket-seed1"

Reads finished stages only, and runs nothing. Gives one HTML file and two tables in the terminal.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from pipeline.core.errors import ConfigError
from pipeline.core.figures import as_in_a_profile, percent
from pipeline.core.files import write_durably
from pipeline.core.tables import print_table
from pipeline.core.versions import commit_in_words
from pipeline.report.page import all_curves, render
from pipeline.report.records import RunRecord

UNSET = "–"


@dataclass(frozen=True)
class Result:
    """pass@1 of one rung on one held-out set, a cell a run: {value, low, high} or None."""

    rung: str
    set: str
    cells: list[dict[str, float] | None]

    @property
    def apart(self) -> bool:
        """Whether the intervals of any two runs do not overlap."""
        found = [cell for cell in self.cells if cell]
        return bool(found) and max(cell["low"] for cell in found) > min(cell["high"] for cell in found)


def compare_runs(names: list[str]) -> Path:
    """Prints and writes the comparison of the runs with these names; returns the file's path.

    Raises ConfigError for fewer than two runs, one named twice, and a run that is not there.
    """
    if len(names) < 2 or len(set(names)) < len(names):
        raise ConfigError(f'RUNS={" ".join(names)!r}: expected two or more different runs, such as RUNS="pocket mine".')
    runs = [RunRecord.as_made(name) for name in names]
    differences, results = config_differences(runs), result_rows(runs)
    path = runs[0].folder.path.parent / f"compare-{'-'.join(names)}.html"
    html = render(
        "compare.html", runs=runs, differences=differences, results=results, curves=all_curves(runs), costs=costs(runs)
    )
    write_durably(path, html)
    _print(runs, differences, results)
    print(f"Comparison: {path}")
    return path


def config_differences(runs: list[RunRecord]) -> list[tuple[str, str, list[str]]]:
    """(stage, key, the value in each run) for what is not the same in all; stages that a run lacks are left out."""
    found = []
    for stage_id in runs[0].stages:
        manifests = [run.stages[stage_id].manifest for run in runs]
        if None in manifests:
            continue
        flat = [
            _flat(m.config) | _flat(m.packages, "package.") | {"code": commit_in_words(m.code, 12), "device": m.devices}
            for m in manifests
        ]
        for key in sorted({key for values in flat for key in values}):
            values = [values.get(key, UNSET) for values in flat]
            if len(set(values)) > 1:
                found.append((stage_id, key.removeprefix("stage."), values))
    return _said_once(found)


def _said_once(found: list[tuple[str, str, list[str]]]) -> list[tuple[str, str, list[str]]]:
    """Merge equal differences of several stages, such as the seed, into one row."""
    stages: dict[tuple, list[str]] = {}
    for stage, key, values in found:
        stages.setdefault((key, *values), []).append(stage)
    return [(", ".join(where), key, list(values)) for (key, *values), where in stages.items()]


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Dotted key -> value as text; items of a list of sections by their place."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict) and value:
        parts = [_flat(item, f"{prefix}{key}.") for key, item in value.items()]
        return {key: text for part in parts for key, text in part.items()}
    return {prefix.rstrip("."): UNSET if value is None else as_in_a_profile(value)}


def result_rows(runs: list[RunRecord]) -> list[Result]:
    """Every rung on every held-out set that one of the runs was evaluated on, in the ladder's order."""
    results = [run.results() for run in runs]
    places = {(rung, name): None for found in results for rung, sets in found.items() for name in sets}
    rows = []
    for rung, name in places:
        figures = [found.get(rung, {}).get(name) for found in results]
        cells = [f and {"value": f["pass@1"], "low": f["low"], "high": f["high"]} for f in figures]
        rows.append(Result(rung, name, cells))
    return rows


def costs(runs: list[RunRecord]) -> list[tuple[str, list[float | None]]]:
    """(stage, seconds in each run)."""
    return [
        (stage_id, [m.wall_seconds if (m := run.stages[stage_id].manifest) else None for run in runs])
        for stage_id in runs[0].stages
    ]


def _print(runs: list[RunRecord], differences: list, results: list[Result]) -> None:
    if differences:
        print_table(differences_table(runs, differences), 2)
    else:
        print("The runs are configured alike.")
    if not results:
        print("None of the runs has been evaluated.")
        return
    print_table(results_table(runs, results), 2)
    for run in runs:
        if not run.results():
            print(f"{run.name} has not been evaluated.")


def differences_table(runs: list[RunRecord], differences: list[tuple[str, str, list[str]]]) -> Table:
    table = Table(title="configured differently", title_justify="left")
    for heading in ("stage", "key", *(run.name for run in runs)):
        table.add_column(heading)
    for stage, key, values in differences:
        table.add_row(stage, key, *values)
    return table


def results_table(runs: list[RunRecord], results: list[Result]) -> Table:
    table = Table(title="pass@1 [95 %], in per cent; * where intervals do not overlap", title_justify="left")
    measured = [place for place in range(len(runs)) if any(row.cells[place] for row in results)]
    for heading in ("rung", "set", *(runs[place].name for place in measured), ""):
        table.add_column(heading, no_wrap=True)
    for row in results:
        shown = [_written(row.cells[place]) for place in measured]
        table.add_row(row.rung, row.set, *shown, "*" if row.apart else "")
    return table


def _written(cell: dict[str, float] | None) -> str:
    return UNSET if cell is None else f"{percent(cell['value'])} [{percent(cell['low'])}, {percent(cell['high'])}]"
