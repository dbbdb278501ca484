"""The tables that end a run: the state of each stage, and the ladder's figures."""

import json
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.config.profile import Profile
from pipeline.core.figures import duration, percent
from pipeline.core.manifest import Manifest
from pipeline.core.tables import print_table
from pipeline.ladder import DISTILL, EVALUATE, LADDER, REPORT, rungs
from pipeline.runs.folder import RunFolder
from pipeline.runs.runner import StageState
from pipeline.training.records import METRICS, read_records

COLOURS = {"done": "green", "stale": "yellow", "partial": "cyan", "missing": "red"}


def print_status(run: RunFolder, states: dict[str, StageState]) -> None:
    print_table(status_table(run, states))


def status_table(run: RunFolder, states: dict[str, StageState]) -> Table:
    table = Table(title=f"{run.path}", title_justify="left")
    for column in ("stage", "state", "time", "why"):
        table.add_column(column)
    running = under_way(run, states)
    for stage_id, state in states.items():
        time = time_taken(state.manifest) if state.manifest else ""
        why = "; ".join(filter(None, (running.get(stage_id), state.reason)))
        table.add_row(stage_id, Text(state.state, COLOURS[state.state]), time, why)
    return table


def under_way(run: RunFolder, states: dict[str, StageState]) -> dict[str, str]:
    """Stage -> which process is running it, and where it is; nothing while no process writes into the run."""
    pid = run.writer()
    partial = {name: run.partial(name, state.key) for name, state in states.items() if state.state == "partial"}
    if pid is None or not partial:
        return {}
    name = max(partial, key=lambda name: _written(partial[name]))
    steps = read_records(partial[name] / METRICS)
    where = f", at step {steps[-1]['step']}" if steps else ""
    return {name: f"process {pid} runs it{where}"}


def _written(folder: Path) -> float:
    return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))


def status_facts(profile: Profile, run: RunFolder, states: dict[str, StageState]) -> dict[str, Any]:
    """What `print_status` shows, as data; seconds and attempts are those of finished stages."""
    running = under_way(run, states)
    stages = {
        stage_id: {
            "state": state.state,
            "reason": state.reason,
            "running": running.get(stage_id),
            "seconds": state.manifest.wall_seconds if state.manifest else None,
            "attempts": state.manifest.attempts if state.manifest else None,
        }
        for stage_id, state in states.items()
    }
    return {"run": str(run.path), "profile": profile.name, "stages": stages}


def time_taken(manifest: Manifest) -> str:
    """Such as `724 s`, or `1830 s in 2 attempts`."""
    attempts = f" in {manifest.attempts} attempts" if manifest.attempts > 1 else ""
    return f"{manifest.wall_seconds:.0f} s{attempts}"


def print_summary(profile: Profile, run: RunFolder) -> None:
    """Each rung's figures in one table, then where the report, the teacher's last checkpoint and the students are."""
    path = run.stage(EVALUATE.id) / "results.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    print_table(ladder_table(profile, found["results"]))
    for name, settings in found["settings"]["sets"].items():
        print(f"{name}: {settings}")
    report = run.stage(REPORT.id) / "report.html"
    if report.is_file():
        print(f"Report:   {report}")
    *_, last = (rung for rung in rungs((), profile.stages.chosen_students) if not rung.student)
    print(f"{last.name + ':':9} {run.stage(last.stage.id) / last.checkpoint}")
    for name in profile.stages.base_model.students:
        print(f"Student:  {run.stage(DISTILL.id) / DISTILL.checkpoint(name)}")
    made = [manifest for stage in LADDER if (manifest := Manifest.read(run.stage(stage.id)))]
    print(f"Took:     {duration(sum(manifest.wall_seconds for manifest in made))}, over {len(made)} stages")
    student, which = next(iter(profile.stages.base_model.students)), run.as_variables()
    print(f"Next:     make chat MODEL={DISTILL.id}/{student}{which}")
    print(f"          make export STUDENT={student}{which}")


def ladder_table(profile: Profile, results: dict) -> Table:
    """All figures on the first evaluation set, and pass@1 on the others."""
    main, *others = profile.stages.evaluate.sets
    table = Table(
        title=f"{main}; figures in percent{'; last, pass@1 on the other sets' if others else ''}",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    votes = sorted(
        {key for figures in results.values() for key in figures[main] if key.startswith("cons@")},
        key=lambda key: int(key.removeprefix("cons@")),
    )
    table.add_column("rung", no_wrap=True)
    for heading in ("pass@1", "95 %", *votes, "format", "language", "cut", "tokens", *others):
        table.add_column(heading, justify="right", no_wrap=True)
    for rung, sets in results.items():
        figures = sets[main]
        table.add_row(
            rung,
            percent(figures["pass@1"]),
            f"{percent(figures['low'])}–{percent(figures['high'])}",
            *(percent(figures.get(vote)) for vote in votes),
            percent(figures["format"]),
            percent(figures["language_consistency"]),
            percent(figures["truncated"]),
            f"{figures['mean_tokens']:.1f}",
            *(percent(sets[name]["pass@1"]) for name in others),
        )
    return table
