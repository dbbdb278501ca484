"""Runs stages: decides which are done, stale, partial or missing, and carries out what is needed."""

import importlib
import logging
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pipeline.config.profile import Profile
from pipeline.core.console import LOGGER, Progress, logged_to, set_up_logging
from pipeline.core.cores import sharing_cores
from pipeline.core.crew import Crew
from pipeline.core.disk import disk_faults_told
from pipeline.core.errors import RunError
from pipeline.core.figures import as_in_a_profile, rough
from pipeline.core.files import hash_json, read_progress
from pipeline.core.manifest import Manifest, hash_stage
from pipeline.core.memory import forget_peak, peak, release_memory
from pipeline.core.ranks import default_device
from pipeline.core.stopping import heeding_interrupts
from pipeline.core.versions import code_version, package_versions
from pipeline.core.watchdog import dumps_to, phase, watching
from pipeline.engines.pool import EnginePool
from pipeline.ladder import LADDER, StageDefinition, needed_for
from pipeline.runs.attempts import ATTEMPTS, Attempts
from pipeline.runs.budget import Budget
from pipeline.runs.folder import RunFolder
from pipeline.runs.forecast import Forecast
from pipeline.runs.identity import resolved_config
from pipeline.steps.context import StageContext, StageInput, StageResult

LEAST_FREE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class StageState:
    """`state` and why; `key` names the partial folder of what would be run now (None while an input is not done)."""

    stage: StageDefinition
    state: Literal["done", "stale", "partial", "missing"]
    reason: str
    manifest: Manifest | None
    key: str | None = None


def stage_states(profile: Profile, run: RunFolder) -> dict[str, StageState]:
    """The state of every stage, in the ladder's order."""
    states: dict[str, StageState] = {}
    for stage in LADDER:
        states[stage.id] = _state_of(stage, profile, run, states)
    return states


def _state_of(stage: StageDefinition, profile: Profile, run: RunFolder, before: dict[str, StageState]) -> StageState:
    manifest = Manifest.read(run.stage(stage.id))
    waiting = [name for name in stage.inputs_of(profile.stages.taught) if before[name].state != "done"]
    if waiting:
        after = waiting[0]
        if manifest is None:
            return StageState(stage, "missing", f"comes after {after}", None)
        return StageState(stage, "stale", f"will be checked after {after}", manifest)
    config = resolved_config(profile, stage)
    inputs = input_identities(stage, before, profile.stages.taught)
    config_hash = hash_json(config)
    key = hash_json({"config": config_hash, "inputs": inputs})
    if manifest is not None and manifest.config_hash == config_hash and manifest.inputs == inputs:
        damaged = _missing_output(run.stage(stage.id), manifest)
        if damaged is None:
            return StageState(stage, "done", "", manifest, key)
        return StageState(stage, "stale", f"its output {damaged} is gone", manifest, key)
    folder = run.partial(stage.id, key)
    if folder.is_dir():
        progress = read_progress(folder)
        reached = f"resumable at {progress['unit']} {progress['done']}" if progress else "just begun"
        of = f" of {progress['total']}" if progress and progress["total"] else ""
        return StageState(stage, "partial", reached + of, manifest, key)
    if manifest is None:
        return StageState(stage, "missing", "", None, key)
    changes = changed_keys(manifest.config, config)
    changes += [f"input {read}" for read in inputs if manifest.inputs.get(read) != inputs[read]]
    return StageState(stage, "stale", "changed: " + ", ".join(changes), manifest, key)


def input_identities(
    stage: StageDefinition, states: dict[str, StageState], taught: Collection[str] = ()
) -> dict[str, str]:
    """What the stage reads -> the identity of what is there now. `taught`: the stages that distil on-policy."""
    found = {}
    for read in stage.reads_of(taught):
        name, _, output = read.partition("/")
        found[read] = states[name].manifest.identity(output)
    return found


def _missing_output(folder: Path, manifest: Manifest) -> str | None:
    return next((name for name in manifest.outputs if not (folder / name).is_file()), None)


UNSET = object()


def changed_keys(old: Any, new: Any, prefix: str = "") -> list[str]:
    """`key (old -> new)` for each key whose value differs; items of a list of sections by their place."""
    old, new = _by_place(old), _by_place(new)
    if isinstance(old, dict) and isinstance(new, dict):
        found = []
        for key in sorted({*old, *new}):
            was, becomes = old.get(key, UNSET), new.get(key, UNSET)
            if was != becomes:
                found += changed_keys(was, becomes, f"{prefix}.{key}" if prefix else key)
        return found
    return [f"{prefix} ({_short(old)} -> {_short(new)})"]


def _by_place(value: Any) -> Any:
    has_sections = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    return {str(place): item for place, item in enumerate(value)} if has_sections else value


def _short(value: Any) -> str:
    """The value as it stands in a profile, cut where it is long."""
    text = "not there" if value is UNSET else as_in_a_profile(value)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True)
class StageOrder:
    """What the leader tells the followers of a stage that begins."""

    stage: StageDefinition
    profile: Profile
    folder: Path
    inputs: dict[str, StageInput]


def follow(crew: Crew) -> None:
    """What a process does that does not lead: it takes part in the stages that the leader runs, until there is none.

    Raises RunError where it fails, or loses the leader.
    """
    set_up_logging()
    profile, run_name = crew.receive()
    engines = EnginePool(profile.engine)
    try:
        with heeding_interrupts(), sharing_cores():
            while (order := crew.receive()) is not None:
                release_memory()
                ctx = _context(order, run_name, engines, crew, logging.getLogger(LOGGER))
                crew.follow(ctx, around=lambda: watching(profile.watchdog.warn_s, profile.watchdog.stop_s))
    finally:
        engines.close()


def run_stages(
    profile: Profile,
    run: RunFolder,
    target: StageDefinition | None,
    crew: Crew | None = None,
    budget: Budget | None = None,
) -> list[StageState]:
    """Runs `target` (None: every stage) and what it depends on, skipping what is done; returns the final states.

    A `budget` chooses the sizes of each stage before it runs. With several processes this is for the leader of the
    `crew`; the others `follow`.
    Raises ConfigError and RunError; after either, and after Ctrl-C, the same call goes on where it stopped.
    """
    logger = set_up_logging()
    crew = crew or Crew()
    crew.send((profile, run.name))
    wanted = LADDER if target is None else needed_for(target, profile.stages.taught)
    run.claim()
    watchdog = watching(profile.watchdog.warn_s, profile.watchdog.stop_s)
    with run.lock(), heeding_interrupts(), watchdog, sharing_cores():
        run.settle()
        engines = EnginePool(profile.engine)
        try:
            states: dict[str, StageState] = {}
            forecast, left = Forecast(profile, run), list(wanted)
            for stage in LADDER:
                states[stage.id] = state = _state_of(stage, profile, run, states)
                if stage not in wanted:
                    continue
                place = f"stage {len(wanted) - len(left) + 1} of {len(wanted)}"
                if budget and state.state != "done":
                    opened = partial(_opened, run=run, states=states, engines=engines, crew=crew)
                    left_of_all = _still_to_run(stage, profile, run, states)
                    profile = budget.settle(stage, left_of_all, run.path / ".partial" / "measuring", opened)
                    states[stage.id] = state = _state_of(stage, profile, run, states)
                still = budget.seconds_left(profile, left) if budget else forecast.seconds(left)
                left.remove(stage)
                if state.state == "done":
                    logger.info("%s: done already", stage.id)
                    continue
                why = f"{state.state}{': ' + state.reason if state.reason else ''}"
                wanted_by = "" if target in (None, stage) else f", needed by {target.id}"
                about = f"; about {rough(still)} for all that is left" if still and left else ""
                logger.info("%s, %s: %s (%s%s)%s", place, stage.id, stage.summary, why, wanted_by, about)
                with disk_faults_told(run.path):
                    took = _run_stage(stage, profile, run, states, engines, crew)
                forecast.ended(stage, took)
                if budget:
                    budget.ended(stage, profile, took)
                states[stage.id] = _state_of(stage, profile, run, states)
            crew.send(None)
        finally:
            engines.close()
            if budget:
                budget.save()
    return list(stage_states(profile, run).values())


def _still_to_run(
    stage: StageDefinition, profile: Profile, run: RunFolder, before: dict[str, StageState]
) -> list[StageDefinition]:
    """The stage, and the later ones that are not done."""
    later, states = LADDER[LADDER.index(stage) :], dict(before)
    for other in later:
        states[other.id] = _state_of(other, profile, run, states)
    return [other for other in later if other == stage or states[other.id].state != "done"]


@contextmanager
def _opened(
    stage: StageDefinition,
    profile: Profile,
    folder: Path,
    logger: logging.Logger,
    *,
    run: RunFolder,
    states: dict[str, StageState],
    engines: EnginePool,
    crew: Crew,
) -> Iterator[StageContext]:
    """A stage about to run in a folder, in every process of the run. Other processes are let go when it is over."""
    inputs = {
        name: StageInput(run.stage(name), states[name].manifest) for name in stage.inputs_of(profile.stages.taught)
    }
    order = StageOrder(stage, profile, folder, inputs)
    ctx = _context(order, run.name, engines, crew, logger)
    crew.send(order)
    yield ctx
    crew.send(None)


def _run_stage(
    stage: StageDefinition,
    profile: Profile,
    run: RunFolder,
    states: dict[str, StageState],
    engines: EnginePool,
    crew: Crew,
) -> float:
    """Returns the seconds that it took, over all attempts."""
    taught = profile.stages.taught
    _check_inputs(stage.reads_of(taught), stage.id, run, states)
    config = resolved_config(profile, stage)
    folder = run.partial(stage.id, states[stage.id].key)
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        raise RunError(
            f"{stage.id}: {folder} is on a disk with {free / 2**20:.0f} MiB free; at least "
            f"{LEAST_FREE_BYTES / 2**20:.0f} MiB are needed. Free some room and run the same command again."
        )
    with logged_to(folder / "log.txt") as logger, dumps_to(folder / "log.txt"), phase(stage.id):
        release_memory()
        try:
            forget_peak()
        except OSError as error:
            logger.warning("%s: the memory of the stages before it counts as its own (%s)", stage.id, error)
        attempts = Attempts(folder)
        whole = _opened(stage, profile, folder, logger, run=run, states=states, engines=engines, crew=crew)
        with whole as ctx, attempts.one_more():
            result: StageResult = importlib.import_module(stage.module).run(ctx)
        memory = peak()
        over = f" over {attempts.count} attempts" if attempts.count > 1 else ""
        logger.info("%s: finished in %.1f s%s", stage.id, attempts.seconds, over)
    outputs, records = hash_stage(folder, result.outputs, [*result.scratch, ATTEMPTS])
    Manifest(
        stage=stage.id,
        profile=profile.name,
        config=config,
        config_hash=hash_json(config),
        inputs=input_identities(stage, states, taught),
        outputs=outputs,
        records=records,
        code=code_version(),
        packages=package_versions(),
        seed=ctx.seed,
        device=ctx.device,
        processes=crew.size,
        wall_seconds=round(attempts.seconds, 2),
        attempts=attempts.count,
        peak_memory_bytes=memory,
        tokens=result.tokens,
        metrics=result.metrics,
    ).write(folder)
    run.finish(stage.id, folder)
    return attempts.seconds


def _context(order: StageOrder, run_name: str, engines: EnginePool, crew: Crew, logger: logging.Logger) -> StageContext:
    stage_id, profile = order.stage.id, order.profile
    engines.use(profile.engine)
    return StageContext(
        stage_id=stage_id,
        run=run_name,
        profile=profile,
        config=getattr(profile.stages, stage_id),
        inputs=order.inputs,
        folder=order.folder,
        device=resolve_device(profile),
        log=logger,
        progress=lambda description, total, quiet=False: Progress(f"{stage_id}: {description}", total, logger, quiet),
        engines=engines,
        crew=crew,
    )


def _check_inputs(reads: Collection[str], stage_id: str, run: RunFolder, states: dict[str, StageState]) -> None:
    """Raises RunError where what the stage is about to read is not what was written."""
    for read in reads:
        name, _, output = read.partition("/")
        changed = states[name].manifest.changed_outputs(run.stage(name), output)
        if changed:
            raise RunError(
                f"{stage_id} reads {read}, which is damaged: {', '.join(changed)} in {run.stage(name)} is not what was "
                f"written. Put it back, or move the folder {run.stage(name)} away: the same command then makes it anew."
            )


def resolve_device(profile: Profile) -> str:
    """`cpu` or `cuda`; `auto` takes CUDA where torch sees it."""
    if profile.device == "cpu":
        return "cpu"
    device = default_device()
    if profile.device == "cuda" and device != "cuda":
        raise RunError(
            "The profile says device: cuda, but torch sees no CUDA device here. "
            "Set device: auto (or cpu), or check the driver and `python -c 'import torch; print(torch.version.cuda)'`."
        )
    return device
