"""Kills the servers and the trainer of a run whose rollouts are written by vLLM servers, and looks at what comes out.

    make chaos SERVERS=2 KILLS=40

The same command climbs to R1-Zero at smoke size again and again, in runs `chaos-servers-<number>`, each with servers of
its own; every second one writes rollouts a step ahead. At random moments a server, or the process inside it that
computes, gets SIGKILL or SIGSTOP, and now and then the trainer SIGKILL, after which the same command goes on.

Expected of every run: it ends; each step's rollout has all its questions, each with all its completions, once, the
questions of an undisturbed run; every token was written by a policy no older than `steps_ahead`; no process and no file
of it is left. Written to `benchmarks/results/chaos-servers.json`.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.processes import alive
from pipeline.core.errors import LadderError, RunError
from pipeline.core.files import read_json_lines, write_durably
from pipeline.core.versions import code_version, package_versions
from pipeline.engines.keeper import STATE
from pipeline.runs.folder import RUNS

RESULTS = Path("benchmarks/results/chaos-servers.json")
NAME, STAGE = "chaos-servers", "r1_zero"
MARK = "LADDER_CHAOS"
"""In the environment of every process of a run: how those that are left are found."""
STEPS, QUESTIONS, GROUP = 12, 4, 4
SILENT_S = 20.0
LONGEST_S = 1800.0
LEFT_S = 60.0
"""How long processes of a run that has ended may take to end."""
TRAINER_SHARE = 0.25


class Storm:
    """One run: started, struck, started again, looked at."""

    def __init__(self, name: str, servers: int, steps_ahead: int):
        self.name, self.steps_ahead, self.servers = name, steps_ahead, servers
        self.folder = Path(tempfile.mkdtemp(prefix="ladder-chaos-"))
        self.log = self.folder / "said.txt"
        shutil.rmtree(RUNS / name, ignore_errors=True)

    def start(self) -> None:
        grpo = f"stages.{STAGE}.grpo"
        keys = {
            "engine.kind": "vllm-server", "engine.servers": self.servers, "engine.server_silent_s": SILENT_S,
            "engine.server_tries": 100, "engine.weights_folder": self.folder / "weights",
            f"{grpo}.max_steps": STEPS, f"{grpo}.steps_ahead": self.steps_ahead, f"{grpo}.checkpoint_every": 2,
            f"{grpo}.log_rollouts_every": 1, f"{grpo}.prompts_per_step": QUESTIONS, f"{grpo}.group_size": GROUP,
        }  # fmt: skip
        overrides = " ".join(f"{key}={value}" for key, value in keys.items())
        words = ["run", STAGE, "--profile", "smoke", "--run", self.name, "--set", overrides]
        environment = {**os.environ, MARK: str(self.folder), "TMPDIR": str(self.folder)}
        with open(self.log, "ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline", *words], stdout=said, stderr=said, env=environment,
                start_new_session=True,
            )  # fmt: skip

    def strike(self, rng: random.Random) -> str:
        """What was killed, and how; '' where there was nothing to kill."""
        if rng.random() < TRAINER_SHARE:
            self.process.kill()
            self.process.wait()
            return "trainer SIGKILL"
        groups = [server["pid"] for file in self.folder.glob(f"*/{STATE}") for server in _state(file)]
        victims = [pid for pid, process in alive().items() if process.group in groups]
        if not victims:
            return ""
        victim, sent = rng.choice(victims), rng.choice([signal.SIGKILL, signal.SIGSTOP])
        try:
            os.kill(victim, sent)
        except ProcessLookupError:
            return ""
        return f"{'server' if victim in groups else 'engine of a server'} {sent.name}"

    def left(self) -> list[int]:
        """Processes of the run that are still there `LEFT_S` after it ended; they are ended."""
        until = time.monotonic() + LEFT_S
        while (found := [pid for pid in alive() if _marked(pid, str(self.folder))]) and time.monotonic() < until:
            time.sleep(0.2)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return found

    def faults(self, asked: dict[int, Counter] | None) -> list[str]:
        """What is wrong with the finished run; `asked` is how often an undisturbed one asks what at each step."""
        here = RUNS / self.name / STAGE
        steps = [row["step"] for _, row in read_json_lines(here / "metrics.jsonl")]
        found = [] if steps == list(range(1, STEPS + 1)) else [f"steps {steps}"]
        mine = self.asked()
        if sorted(mine) != list(range(1, STEPS + 1)):
            found.append(f"rollouts of steps {sorted(mine)}")
        for step, ids in mine.items():
            if set(ids.values()) != {GROUP} or len(ids) != QUESTIONS:
                found.append(f"step {step}: completions of questions {dict(ids)}")
            elif asked and asked.get(step) != ids:
                found.append(f"step {step}: other questions than without kills")
        for step, row in self.rows():
            spans = row["policy_steps"]
            whole = [first for _, first, _ in spans] == [0, *(end for *_, end in spans[:-1])]
            if not whole or spans[-1][2] != row["tokens"]:
                found.append(f"step {step}: tokens without a policy: {spans}")
            if any(not step - 1 - self.steps_ahead <= made <= step - 1 for made, _, _ in spans):
                found.append(f"step {step}: tokens of the policies {spans}")
        left = [str(file) for file in self.folder.iterdir() if file != self.log and any(file.glob("*"))]
        return found + [f"left: {file}" for file in left]

    def rows(self) -> list[tuple[int, dict]]:
        return [
            (int(file.stem.removeprefix("step-")), row)
            for file in sorted((RUNS / self.name / STAGE / "rollouts").glob("step-*.jsonl"))
            for _, row in read_json_lines(file)
        ]

    def asked(self) -> dict[int, Counter]:
        found: dict[int, Counter] = {}
        for step, row in self.rows():
            found.setdefault(step, Counter())[row["id"]] += 1
        return found

    def wait(self, seconds: float) -> int | None:
        """The exit code; None where it runs on."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None


def _state(file: Path) -> list[dict]:
    try:
        return json.loads(file.read_text())["servers"]
    except (OSError, ValueError, KeyError):
        return []


def _marked(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def chaos(kills: int, servers: int, seed: int) -> dict:
    rng, begun = random.Random(seed), time.monotonic()
    calm = Storm(f"{NAME}-calm", servers, 0)
    calm.start()
    if calm.wait(LONGEST_S) != 0:
        raise RunError(f"the undisturbed run failed; what it said: {calm.log}")
    asked, faults = calm.asked(), {calm.name: [*calm.faults(None), *_told(calm.left())]}
    print(f"undisturbed: {time.monotonic() - begun:.0f} s, {faults[calm.name] or 'no fault'}", flush=True)
    struck: Counter = Counter()
    number = 0
    while struck.total() < kills:
        number += 1
        storm = Storm(f"{NAME}-{number}", servers, number % 2)
        until, left = time.monotonic() + LONGEST_S, []
        storm.start()
        while (code := storm.wait(rng.uniform(0.5, 12.0))) is None:
            if time.monotonic() > until:
                storm.process.kill()
                raise RunError(f"{storm.name} does not end; what it said: {storm.log}")
            if struck.total() < kills and (what := storm.strike(rng)):
                struck[what] += 1
                if what.startswith("trainer"):
                    left += storm.left()
                    storm.start()
        left += storm.left()
        wrong = [*_told(left), *([f"exit code {code}"] if code else storm.faults(asked))]
        faults[storm.name] = wrong
        print(f"{storm.name}: {struck.total()} of {kills} kills, {wrong or 'no fault'}", flush=True)
        if code:
            raise RunError(f"{storm.name} ended with {code}; what it said: {storm.log}")
        shutil.rmtree(storm.folder, ignore_errors=True)
    return {
        "cores": os.cpu_count(), "code": code_version(), "packages": package_versions(), "servers": servers,
        "passed": not any(faults.values()), "kills": dict(struck), "runs": number, "faults": faults,
        "completions_a_run": STEPS * QUESTIONS * GROUP, "seconds": round(time.monotonic() - begun),
    }  # fmt: skip


def _told(left: list[int]) -> list[str]:
    return [f"{len(left)} processes left"] if left else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--servers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    try:
        result = chaos(options.kills, options.servers, options.seed)
    except LadderError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    options.results.parent.mkdir(parents=True, exist_ok=True)
    write_durably(options.results, json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))
    return 0 if result["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
