"""The tables that end a run: the state of each stage, and the ladder's figures."""

import json

from rich.console import Console
from rich.table import Table

from pipeline.config.profile import Profile
from pipeline.run_folder import RunFolder
from pipeline.runner import StageState

COLOURS = {"done": "green", "stale": "yellow", "partial": "cyan", "missing": "red"}


def print_status(run: RunFolder, states: dict[str, StageState]) -> None:
    table = Table(title=f"{run.path}", title_justify="left")
    for column in ("stage", "state", "time", "why"):
        table.add_column(column, overflow="fold")
    for stage_id, state in states.items():
        time = f"{state.manifest.wall_seconds:.0f} s" if state.manifest else ""
        table.add_row(stage_id, f"[{COLOURS[state.state]}]{state.state}[/]", time, state.reason)
    Console().print(table)


def print_summary(profile: Profile, run: RunFolder) -> None:
    """Each rung's figures, then where the report and the students are."""
    path = run.stage("evaluate") / "results.json"
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    for name, settings in profile.stages.evaluate.sets.items():
        console = Console()
        console.print(_ladder_table(name, settings, profile, results))
    report = run.stage("report") / "report.html"
    if report.is_file():
        print(f"Report:   {report}")
    for name in profile.stages.base_model.students:
        student = run.stage("distill") / "students" / name / "checkpoint"
        if student.is_dir():
            print(f"Student:  {student}")


def _ladder_table(name: str, settings, profile: Profile, results: dict) -> Table:
    sampling = profile.stages.evaluate.sampling
    table = Table(
        title=f"{name}: {settings.questions} held-out questions × {settings.samples} samples, temperature "
        f"{sampling.temperature}, top-p {sampling.top_p}, at most {sampling.max_tokens} tokens",
        title_justify="left",
    )
    votes = sorted(
        {key for figures in results.values() for key in figures.get(name, {}) if key.startswith("cons@")},
        key=lambda key: int(key.removeprefix("cons@")),
    )
    headings = ("pass@1 [95 %]", *votes, "format", "language", "tokens")
    table.add_column("rung")
    for heading in headings:
        table.add_column(heading, justify="right")
    for rung, figures in ((rung, sets[name]) for rung, sets in results.items() if name in sets):
        table.add_row(
            rung,
            f"{percent(figures['pass@1'])} [{percent(figures['low'])}, {percent(figures['high'])}]",
            *(percent(figures.get(vote)) for vote in votes),
            percent(figures["format"]),
            percent(figures["language_consistency"]),
            f"{figures['mean_tokens']:.1f}",
        )
    return table


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"
