"""Kills a climbing ladder at random moments, again and again, and compares what it ends with to an undisturbed climb.

    make chaos KILLS=100

Two runs of one profile (smoke size): `chaos-calm`, undisturbed, and `chaos-storm`, killed KILLS times and started again
each time with the same command. Moments are spread over all stages. Half are moments in time from the start of a stage
(SIGKILL mostly, some SIGTERM and SIGINT), half are changes to the file system (right before or right after a rename, an
fsync, a removal, …). If a climb ends before all kills are spent, another one (`chaos-storm-2`) takes the rest. An
interrupted `make chaos` goes on where it was.

Expected: every stage's manifest lists the same outputs with the same hashes; no sample is lost or there twice; no
folder is half-written; nothing of a killed process is left alive. Written to `benchmarks/results/chaos.json`.

Not compared: `report`, whose page prints times and memory, and files for people (logs, metrics with seconds); the lines
of their rollouts and metrics are counted instead. vLLM and PyTorch on a CPU give the same bits for the same seeds, so
nothing else is left out.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.chaos_climb import ENDED_BY, LONGEST_STAGE, SIGNALS, START_SECONDS, Climb, Course
from pipeline.core.errors import LadderError, RunError
from pipeline.core.files import hash_file, read_json_lines, write_durably
from pipeline.core.manifest import MANIFEST, Manifest
from pipeline.core.versions import code_version, package_versions
from pipeline.ladder import REPORT
from pipeline.runs.folder import RUNS

RESULTS = Path("benchmarks/results/chaos.json")
CALM, STORM = "chaos-calm", "chaos-storm"
STATE = RUNS / f"{STORM}-state.json"
NOT_EQUAL = (REPORT.id,)
"""Stages whose output prints times."""


@dataclass
class Kill:
    """One planned kill, and what became of it."""

    number: int
    stage: str
    """The stage it is meant for."""
    moment: str
    """Seconds into the stage, or a change to the file system."""
    hit: str = ""
    """The stage it hit: a later one where the climb was quicker; "start" before any stage."""
    signal: str = ""
    seconds: float = 0.0
    """From the start of the command to its end."""
    orphans: int = 0
    """Processes of the killed one that were still alive `ORPHAN_SECONDS` later."""


def calm_climb(course: Course) -> tuple[dict[str, float], dict[str, int]]:
    """Climbs undisturbed; (seconds, changes to the file system) of each stage."""
    counts = RUNS / f"{CALM}-changes.json"
    climb = Climb(["benchmarks.chaos_child", str(counts), "-", "0", "-"], CALM, course)
    if climb.end(3600) != 0:
        raise RunError(f"the undisturbed climb failed:\n{''.join(climb.said[-20:])}")
    seconds = {stage: Manifest.read(RUNS / CALM / stage).wall_seconds for stage in course.stages}
    changes = json.loads(counts.read_text())
    counts.unlink()
    return seconds, changes


def plan(kills: range, course: Course) -> list[Kill]:
    """The kills in the order of their stages, as many a stage as another."""
    order = course.stages
    stages = sorted((order[number % len(order)] for number in kills), key=order.index)
    return [
        Kill(number, stage, "time" if random.Random(f"{course.seed} {number} kind").random() < 0.5 else "change")
        for number, stage in zip(kills, stages, strict=True)
    ]


def carry_out(kill: Kill, run: str, course: Course, seconds: dict[str, float], changes: dict[str, int]) -> bool:
    """Starts the command, kills it at the planned moment; False where the climb ended before."""
    rng = random.Random(f"{course.seed} {kill.number}")
    begun = time.monotonic()
    if kill.moment == "change":
        count, when = rng.randint(1, changes[kill.stage]), rng.choice(["before", "after"])
        kill.moment, kill.signal = f"{when} change {count} of {changes[kill.stage]}", "SIGKILL"
        climb = Climb(["benchmarks.chaos_child", "-", kill.stage, str(count), when], run, course)
        later = course.stages[course.stages.index(kill.stage) + 1 :]
        _wait(climb, lambda: any(climb.reached(stage) for stage in later[:1]))
        sent = signal.SIGKILL
    else:
        after, sent = rng.random() * (seconds[kill.stage] + START_SECONDS), rng.choice(SIGNALS)
        kill.moment, kill.signal = f"{after:.2f} s in", sent.name
        climb = Climb(["pipeline"], run, course)
        _wait(climb, lambda: (begun := climb.reached(kill.stage)) and time.monotonic() >= begun + after)
    if climb.process.poll() is None:
        climb.process.send_signal(sent)
    code = climb.end()
    kill.hit, kill.seconds, kill.orphans = climb.stage, round(time.monotonic() - begun, 1), climb.orphans()
    if code == 0:
        return False
    if code not in ENDED_BY[sent]:
        raise RunError(f"kill {kill.number} ({kill}): the climb ended with {code}:\n{''.join(climb.said[-30:])}")
    return True


def _wait(climb: Climb, over) -> None:
    until = time.monotonic() + LONGEST_STAGE
    while climb.process.poll() is None and not over():
        if time.monotonic() > until:
            climb.process.kill()
            raise RunError(f"the climb is stuck:\n{''.join(climb.said[-30:])}")
        time.sleep(0.005)


# ---- What is left behind --------------------------------------------------------------------------------------------


def half_written(run: str) -> list[str]:
    """Stage folders that are in place without being whole: no manifest, or a file missing or unlisted."""
    found = []
    for folder in (RUNS / run).iterdir():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        manifest = Manifest.read(folder)
        files = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
        if manifest is None or files != {*manifest.outputs, *manifest.records, MANIFEST}:
            found.append(folder.name)
    return found


def rows(run: str) -> Counter:
    """How often each row of the run is there: samples kept and dropped, judged and trained on, pairs, steps."""
    found: Counter = Counter()
    for file in (RUNS / run).glob("[a-z]*/**/*.jsonl"):
        name = str(file.relative_to(RUNS / run))
        for _, entry in read_json_lines(file):
            row = {key: value for key, value in entry.items() if not key.startswith("seconds")}
            identity = row["step"] if "metrics.jsonl" in name else json.dumps(row, sort_keys=True)
            found[f"{name} {identity}"] += 1
    return found


def compare(run: str, stages: list[str]) -> dict:
    """Outputs that differ from the calm run's, rows lost and doubled."""
    differ = []
    for stage in stages:
        calm, storm = Manifest.read(RUNS / CALM / stage), Manifest.read(RUNS / run / stage)
        if stage in NOT_EQUAL:
            continue
        differ += [f"{stage}/{name}" for name in sorted({*calm.outputs, *storm.outputs})
                   if calm.outputs.get(name) != storm.outputs.get(name)]  # fmt: skip
        wrong = [name for name, digest in storm.outputs.items() if hash_file(RUNS / run / stage / name) != digest]
        differ += [f"{stage}/{name} is not what its manifest says" for name in wrong]
    calm, storm = rows(CALM), rows(run)
    return {
        "outputs_that_differ": differ,
        "rows": calm.total(),
        "rows_lost": (calm - storm).total(),
        "rows_doubled_or_strange": (storm - calm).total(),
        "half_written": half_written(run),
        "left_in_partial": sorted(path.name for path in (RUNS / run / ".partial").glob("*")),
    }


# ---- The whole of it ------------------------------------------------------------------------------------------------


def chaos(kills: int, course: Course) -> dict:
    started = time.monotonic()
    state = _state({"kills": kills, **asdict(course)})
    if "seconds" not in state:
        for folder in RUNS.glob(f"{STORM}*"):
            shutil.rmtree(folder) if folder.is_dir() else folder.unlink()
        shutil.rmtree(RUNS / CALM, ignore_errors=True)
        print("climbing undisturbed …", flush=True)
        state["seconds"], state["changes"] = calm_climb(course)
        print(f"  {sum(state['seconds'].values()):.0f} s, {sum(state['changes'].values())} changes", flush=True)
    done = [Kill(**kill) for kill in state["done"]]
    while len(done) < kills:
        run = f"{STORM}-{state['climbs']}"
        for kill in plan(range(len(done), kills), course):
            if not carry_out(kill, run, course, state["seconds"], state["changes"]):
                state["climbs"] += 1
                break
            done.append(kill)
            print(
                f"{len(done):4}/{kills} {kill.signal:8} {kill.moment:24} meant for {kill.stage:18} hit {kill.hit:18} "
                f"{kill.seconds:5.1f} s{f', {kill.orphans} orphans' if kill.orphans else ''}", flush=True,
            )  # fmt: skip
            if broken := half_written(run):
                raise RunError(f"after kill {kill.number} {broken} of {RUNS / run} are half-written")
            state["done"] = [asdict(kill) for kill in done]
            state["elapsed"] = state["base"] + time.monotonic() - started
            write_durably(STATE, json.dumps(state))
    runs = [f"{STORM}-{number}" for number in range(1, state["climbs"] + 1) if (RUNS / f"{STORM}-{number}").is_dir()]
    for run in runs:
        climb = Climb(["pipeline"], run, course)
        if climb.end(3600) != 0:
            raise RunError(f"the last climb of {run} failed:\n{''.join(climb.said[-20:])}")
    found = {run: compare(run, course.stages) for run in runs}
    STATE.unlink(missing_ok=True)
    return _result(done, course.stages, found, state, state["base"] + time.monotonic() - started)


def _state(asked: dict) -> dict:
    """What an interrupted `make chaos` of the same kind reached, or a fresh start."""
    if STATE.is_file():
        state = json.loads(STATE.read_text())
        if state["asked"] == asked:
            print(f"going on after {len(state['done'])} kills", flush=True)
            return {**state, "base": state["elapsed"]}
    return {"asked": asked, "done": [], "climbs": 1, "elapsed": 0.0, "base": 0.0}


def _result(done: list[Kill], stages: list[str], found: dict[str, dict], state: dict, seconds: float) -> dict:
    hits = Counter(kill.hit for kill in done)
    good = all(
        not (f["outputs_that_differ"] or f["rows_lost"] or f["rows_doubled_or_strange"] or f["half_written"]
             or f["left_in_partial"]) for f in found.values()
    )  # fmt: skip
    return {
        "cores": os.cpu_count(),
        "code": code_version(),
        "packages": package_versions(),
        **state["asked"],
        "passed": good and not any(kill.orphans for kill in done),
        "hits": {stage: hits[stage] for stage in ["start", *stages] if hits[stage]},
        "stages_never_hit": [stage for stage in stages if not hits[stage]],
        "signals": dict(Counter(kill.signal for kill in done)),
        "at_a_change_of_the_file_system": sum("change" in kill.moment for kill in done),
        "orphans": sum(kill.orphans for kill in done),
        "climbs": found,
        "not_compared": list(NOT_EQUAL),
        "seconds": round(seconds),
        "undisturbed_seconds": round(sum(state["seconds"].values())),
        "median_seconds_a_kill": median(kill.seconds for kill in done) if done else None,
        "list": [asdict(kill) for kill in done],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--target", default="all", help="the stage to climb to (default: all)")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    RUNS.mkdir(exist_ok=True)
    try:
        result = chaos(options.kills, Course(options.profile, options.target, options.seed))
    except LadderError as error:
        STATE.unlink(missing_ok=True)  # the folders stay, to be looked at; the next command starts anew
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options.results.parent.mkdir(parents=True, exist_ok=True)
    write_durably(options.results, json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: value for key, value in result.items() if key != "list"}, indent=1))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
