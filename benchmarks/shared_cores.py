"""One RL step of pocket alone, and beside one busy loop a core: side by side, in turn, on the same rollouts' settings.

    .venv/bin/python -m benchmarks.shared_cores [--steps 12] [--rounds 3] [--dry-run]

Each round runs R1-Zero's first steps in a process of its own, once alone and once beside the loops, and takes the
median seconds a step, the first steps left out. Printed are every round, the machine's load and pressure before it, and
the ratio. It wants a quiet machine: where the load is over 0.5 before it begins, nothing is measured or written.
"""

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.files import read_json_lines
from pipeline.core.versions import package_versions
from pipeline.ladder import of_kind

STAGE = next(iter(of_kind("rl"))).id

QUIET_LOAD = 0.5
WARM_UP = 4
"""Steps left out: the engine and the allocator settle, and the program finds out that its cores are shared."""
MOST_RATIO = 2.5
"""What the ratio should be at most."""
CHECKOUT = Path(__file__).resolve().parents[1]
PRESSURE = Path("/proc/pressure/cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12, help="steps a round, the first few of which are left out")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", default="pocket")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/shared_cores.json"))
    parser.add_argument("--dry-run", action="store_true", help="run on any machine, and write no file")
    options = parser.parse_args()
    if options.steps <= WARM_UP:
        parser.error(f"--steps {options.steps}: more than {WARM_UP}, which are left out")
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cores} cores, load {load:.2f} before the first round, {pressure()}")
    if load > QUIET_LOAD and not options.dry_run:
        print(
            f"The machine is not quiet (load over {QUIET_LOAD}): nothing is measured. --dry-run tries it all the same."
        )
        return 1
    rounds = [one_round(options.profile, options.steps, cores) for _ in range(options.rounds)]
    alone, beside = (statistics.median(each[way] for each in rounds) for way in ("alone", "beside"))
    results = {
        "machine": f"{platform.machine()}, {cores} cores",
        "versions": {name: version for name, version in package_versions().items() if name in ("torch", "vllm", "trl")},
        "profile": options.profile,
        "load before": round(load, 2),
        "rounds": rounds,
        "seconds a step, alone": alone,
        "seconds a step, beside one busy loop a core": beside,
        "ratio": round(beside / alone, 2),
    }
    print(json.dumps(results, indent=2))
    print(f"ratio {beside / alone:.2f}, wanted at most {MOST_RATIO}")
    if not options.dry_run:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


def one_round(profile: str, steps: int, cores: int) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for way, loops in (("alone", 0), ("beside", cores)):
        before = f"load {os.getloadavg()[0]:.2f}, {pressure()}"
        with busy(loops):
            found |= {way: round(median_step(profile, steps), 3), f"before {way}": before}
        print(f"{way}: {found[way]} s a step ({before})")
    return found


@contextlib.contextmanager
def busy(loops: int) -> Iterator[None]:
    """Meanwhile so many other processes each keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def median_step(profile: str, steps: int) -> float:
    """Median seconds of R1-Zero's steps after the warm-up, in a run of its own that is removed."""
    name = f"bench-shared-cores-{os.getpid()}-{time.monotonic_ns()}"
    settings = f"stages.r1_zero.grpo.max_steps={steps} stages.r1_zero.heldout=null"
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "configs").symlink_to(CHECKOUT / "configs")
        command = [
            sys.executable,
            "-m",
            "pipeline",
            "run",
            "r1-zero",
            "--profile",
            profile,
            "--run",
            name,
            "--set",
            settings,
        ]
        environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        rows = [row for _, row in read_json_lines(Path(folder) / "runs" / name / STAGE / "metrics.jsonl")]
        return statistics.median(row["seconds_step"] for row in rows[WARM_UP:])


def pressure() -> str:
    """What share of the last ten seconds some task of the machine waited for a core."""
    try:
        return f"pressure {PRESSURE.read_text(encoding='utf-8').split('avg10=')[1].split()[0]} %"
    except (OSError, IndexError):
        return "no pressure figures"


if __name__ == "__main__":
    raise SystemExit(main())
