"""What `make plan` prints, and gives as JSON."""

import argparse
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.checks.measured import Comparison, compare_with_run, mean_lengths
from pipeline.checks.plan import Plan, best_plans, trained_source
from pipeline.checks.plan_experts import what_it_takes
from pipeline.config.loading import load_profile
from pipeline.config.profile import Profile
from pipeline.config.stages import RLStage
from pipeline.core.arguments import DEFAULT_PROFILE
from pipeline.core.errors import ConfigError
from pipeline.core.figures import duration
from pipeline.core.tables import print_table, standard_output
from pipeline.ladder import STAGES
from pipeline.models.accelerators import ACCELERATORS, GIB, RATES, Accelerator, Rates
from pipeline.models.shapes import shape_of
from pipeline.runs.folder import RunFolder

EXPLAINED = 4
"""Reasons that are printed for layouts that do not fit."""


def plan(options: argparse.Namespace, overrides: Sequence[str]) -> None:
    """`print_plan` as the command line asks for it: of the profile that it names, by default that of the run that it
    names, else the one that all commands take."""
    run = RunFolder.existing(options.run) if options.run else None
    name = options.profile or (run.profile_file if run else DEFAULT_PROFILE)
    profile = load_profile(name, overrides, options.seed).profile
    print_plan(profile, run, options.gpus, options.gpu, options.json)


def print_plan(
    profile: Profile, run: RunFolder | None, gpus: int | None, gpu_name: str | None, as_json: bool = False
) -> None:
    """The plan of a profile on `gpus` × `gpu_name`; with a run what its own rates predict beside what it took, and a
    plan where GPUs are named. Raises ConfigError for a GPU that is not known."""
    told: dict[str, Any] = {"profile": profile.name}
    console = standard_output()
    if as_json:
        console.file = io.StringIO()
    if run is not None:
        told["run"] = _print_run(console, profile, run)
    if run is None or gpus is not None:
        gpu = _gpu(gpu_name)
        if gpus is not None and gpus < 1:
            raise ConfigError(f"GPUS={gpus}: expected a whole number from 1.")
        gpus = gpus or (profile.made_for.gpus if profile.made_for else gpu.per_machine)
        lengths = mean_lengths(profile, run) if run else {}
        told |= {"gpus": gpus, "gpu": asdict(gpu), "assumed": asdict(RATES), "lengths": lengths}
        told |= _print_layouts(console, profile, gpu, gpus, RATES, lengths)
    if as_json:
        print(json.dumps(told, indent=1))


def _gpu(name: str | None) -> Accelerator:
    gpu = ACCELERATORS.get((name or "h100").lower())
    if gpu is None:
        raise ConfigError(f"GPU={name}: known are {', '.join(ACCELERATORS)}.")
    return gpu


def _print_layouts(
    console: Console, profile: Profile, gpu: Accelerator, gpus: int, rates: Rates, lengths: dict[str, float]
) -> dict[str, Any]:
    unknown = [
        source
        for name in profile.stages.of(RLStage)
        if shape_of(source := trained_source(profile, STAGES[name])) is None
    ]
    large = [text for source in dict.fromkeys(unknown) if (text := what_it_takes(source, profile, gpu, gpus, rates))]
    if unknown:
        for text in large or [f"The layers of {unknown[0]} are not known here, so nothing can be planned for it."]:
            console.print(text)
        return {"plans": [], "does not fit": large}
    plans, why = best_plans(profile, gpu, gpus, rates, lengths)
    quickest = min(plans, key=lambda plan: plan.hours, default=None)
    for plan in plans:
        _print_layout(console, plan, gpu, "the quickest" if plan is quickest else "")
    if not plans:
        console.print(f"No way to divide {gpus} × {gpu.name} fits the profile '{profile.name}':")
        for reason in why[-EXPLAINED:]:
            console.print(f"  {reason}")
    _print_constants(console, gpu, rates, lengths)
    return {"plans": [_of_plan(plan) for plan in plans], "does not fit": why}


def _of_plan(plan: Plan) -> dict[str, Any]:
    layout = {**asdict(plan.layout), "parallel": plan.layout.parallel.model_dump()}
    return {
        "layout": layout, "gpus": plan.gpus, "hours": plan.hours, "stages": [asdict(stage) for stage in plan.stages]
    }  # fmt: skip


def _print_layout(console: Console, plan: Plan, gpu: Accelerator, note: str) -> None:
    title = f"{plan.layout}: {plan.gpus} × {gpu.name}, RL in {duration(3600 * plan.hours)}"
    table = Table(title=f"{title}{f' ({note})' if note else ''}", title_justify="left")
    for column in ("stage", "write", "update", "sync", "limited by", "a step", "steps", "in all"):
        table.add_column(column)
    for stage in plan.stages:
        times = (duration(seconds) for seconds in (stage.write, stage.update, stage.sync))
        ends = (duration(stage.step), str(stage.steps), duration(3600 * stage.hours))
        table.add_row(stage.stage, *times, stage.limits, *ends)
    print_table(table, console=console)
    memory = Table(title=f"memory of a trainer's {gpu.name} in GiB, of {gpu.gib:g}", title_justify="left")
    memory.add_column("stage")
    for part in plan.stages[0].memory:
        memory.add_column(part)
    if plan.layout.servers:
        memory.add_column("a server's weights")
    for stage in plan.stages:
        held = [f"{part / GIB:.1f}" for part in stage.memory.values()]
        server = [f"{stage.server_memory / GIB:.1f}"] if plan.layout.servers else []
        memory.add_row(stage.stage, *held, *server)
    print_table(memory, console=console)


def _print_constants(console: Console, gpu: Accelerator, rates: Rates, lengths: dict[str, float]) -> None:
    table = Table(title="assumed", title_justify="left")
    table.add_column("what")
    table.add_column("how much")
    for item in fields(gpu):
        value = getattr(gpu, item.name)
        table.add_row(f"{gpu.name}: {item.name}", value if isinstance(value, str) else f"{value:.4g}")
    for item in fields(rates):
        table.add_row(item.name, f"{getattr(rates, item.name):.4g}")
    for stage, mean in lengths.items():
        table.add_row(f"{stage}: mean completion, as the run's last steps had it", f"{mean:.0f}")
    print_table(table, console=console)


def _print_run(console: Console, profile: Profile, run: RunFolder) -> dict[str, Any]:
    rates, comparisons = compare_with_run(profile, run)
    table = Table(title=f"{run.name}: predicted by rates fitted on other steps, and measured", title_justify="left")
    for column in ("stage", "steps", "write", "update", "a step", "ratio", "memory, GiB", "ratio"):
        table.add_column(column)
    for one in comparisons:
        pairs = [f"{one.predicted[name]:.2f} | {one.measured[name]:.2f} s" for name in ("write", "update", "step")]
        table.add_row(one.stage, str(one.steps), *pairs, f"{one.ratio:.2f}", *_memory(one))
    print_table(table, console=console)
    return {"rates": asdict(rates), "stages": [asdict(one) for one in comparisons]}


def _memory(one: Comparison) -> tuple[str, str]:
    predicted = one.predicted_memory / GIB
    if one.measured_memory is None:
        return f"{predicted:.1f} | –", "–"
    measured = one.measured_memory / GIB
    return f"{predicted:.1f} | {measured:.1f}", f"{predicted / measured:.2f}"
