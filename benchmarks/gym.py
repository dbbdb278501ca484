"""Every reasoning-gym task: does it need thought, and is it paid for what it asks and for nothing else?

    python -m benchmarks.gym [TASK …] [--questions 40] [--seconds 20]

For each task: the share of questions that the best constant answer gets, and the best copy of something that stands in
the question; the share of gold answers that are still paid when they are denied, hedged, given with another one, turned
to the other sign or cut off at the decimal point; and whether two processes with other seeds of string hashes make the
same questions, by the package itself and by this ladder's source. Writes `rewards/grading/gym_shortcuts.json`, by which
`make check` refuses tasks, and `docs/reasoning-gym.md`. Tasks that are named are scanned anew; the others stay.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_recipes.sources.gym_rows import entries_of
from pipeline.checks.puzzles import SOLVED, SUSPECT
from pipeline.core.errors import ConfigError
from rewards.grading import pool
from rewards.grading.gym_shortcuts import CHANGES, GOLD, RECORDED, recorded
from rewards.grading.verifiers import Job

PAGE = Path("docs/reasoning-gym.md")
SEED = 2**20
QUOTES = ("'", '"')
HEAD = """# reasoning-gym, task by task

`python -m benchmarks.gym` (reasoning-gym {version}) makes 40 questions of every task with the task's own arguments and
answers them without thought (fewer where a scorer is slow: `gym_shortcuts.json` has the counts). `make check` tries the
best such answers again with the arguments of a profile: it refuses to train on a task that one of them solves (from
{refused:.0%} of the questions on), and warns from {warned:.0%} on.

- **constant**: percent of the questions that get full marks from the best of a hundred constant answers and the most
  frequent gold answer; **copy**: from the best thing to copy out of the question (a line, a number, a list …).
- **paid besides**: percent of gold answers that still get full marks when they are denied, hedged, given beside
  another, put among other words, turned to the other sign or cut off at the decimal point. `power_function` asks for
  three significant digits, so that a large number cut off at its point is right.
- **repeats**: whether two processes make the same questions of one seed: by the package itself / by the source
  `reasoning_gym:TASK`, whose worker processes hash strings alike. Without that a resumed run would be judged by other
  gold answers.

A task's arguments travel with its rows to the scorer. No scorer here evaluates an answer as Python, and strict ones
stand in for those that pay for what was not asked (`rewards/grading/gym_scorers.py`).

| task | constant | copy | paid besides | repeats |
|---|---|---|---|---|
"""
REPEATED = 3
"""Questions of each task that are made anew by other processes."""
CHILD = """
import json, sys
from benchmarks.gym import digest
found = json.dumps({task: digest(task, *map(json.loads, sys.argv[1:3])) for task in sys.argv[3:]})
print(f"\\n{found}")  # some tasks print too
"""


def digest(task: str, questions: int, by_ladder: bool) -> str:
    """A hash of the task's questions and answers, made in this process or by the ladder's source."""
    try:
        if by_ladder:
            entries = entries_of(task, questions, SEED, {})
        else:
            import reasoning_gym

            entries = list(reasoning_gym.create_dataset(task, size=questions, seed=SEED))
    except Exception as error:
        return f"error: {error}"
    text = repr([(entry["question"], entry["answer"]) for entry in entries])
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()


def repeated(tasks: list[str], questions: int, by_ladder: bool) -> dict[str, bool]:
    """Task -> whether two processes with other seeds of string hashes make the same questions."""
    found = []
    for seed in ("1", "2"):
        call = [sys.executable, "-W", "ignore", "-c", CHILD, json.dumps(questions), json.dumps(by_ladder), *tasks]
        done = subprocess.run(call, env={**os.environ, "PYTHONHASHSEED": seed}, stdout=subprocess.PIPE, check=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return {task: found[0][task] == found[1][task] for task in tasks}


def scanned(task: str, questions: int, seconds: float) -> dict[str, Any]:
    """The figures of one task, or why there are none."""
    try:
        entries = entries_of(task, questions, SEED, {})
    except ConfigError as error:
        return {"error": str(error).partition(": ")[2]}
    payload = {"entries": entries, "seconds": seconds}
    [outcome] = pool.shared().run(
        [Job("rewards.grading.gym_shortcuts:tried", payload, 10 * seconds, 4 * seconds, alone=True)]
    )
    if outcome.failure:
        return {"error": outcome.failure}
    shares = {label: (right / count, count) for label, (right, count) in outcome.value.items() if count}
    constants = {label: share for label, share in shares.items() if label.startswith("the constant ")}
    copied = {label: share for label, share in shares.items() if label not in {*constants, GOLD, *CHANGES}}
    return {
        "constant": best(constants),
        "copy": best(copied),
        "gold": share_of(shares, GOLD),
        "changed": {label: share_of(shares, label) for label in CHANGES if label in shares},
        "questions": max((count for _, count in shares.values()), default=0),
    }


def share_of(shares: dict[str, tuple[float, int]], label: str) -> float | None:
    return round(shares[label][0], 3) if label in shares else None


def best(shares: dict[str, tuple[float, int]]) -> list[Any] | None:
    """[label, share] of the answer that gets most, of those tried on at least a quarter of the questions."""
    enough = max((count for _, count in shares.values()), default=0) / 4
    fair = {label: share for label, (share, count) in shares.items() if count >= enough}
    label = max(fair, key=fair.get, default=None)
    return None if label is None or not fair[label] else [label, round(fair[label], 3)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("tasks", nargs="*", help="default: every task")
    arguments.add_argument("--questions", type=int, default=40, help="of each task")
    arguments.add_argument("--seconds", type=float, default=20.0, help="of computing, after which no more are tried")
    options = arguments.parse_args()
    from reasoning_gym.factory import DATASETS

    tasks = options.tasks or sorted(set(DATASETS) - {"composite"})
    found = recorded() if RECORDED.exists() else {}
    for task in tasks:
        found[task] = scanned(task, options.questions, options.seconds)
        print(task, json.dumps(found[task], ensure_ascii=False), flush=True)
        write(found)
    package, ladder = (repeated(tasks, REPEATED, by_ladder) for by_ladder in (False, True))
    for task in tasks:
        found[task] |= {"repeats": package[task], "repeats_here": ladder[task]}
    write(found)


def write(found: dict[str, Any]) -> None:
    whole = {"version": version("reasoning-gym"), "tasks": dict(sorted(found.items()))}
    RECORDED.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(whole), encoding="utf-8")


def page(whole: dict[str, Any]) -> str:
    """The page of the documentation: every task with its figures."""
    rows = [
        f"| {task} | {shown(figures, 'constant')} | {shown(figures, 'copy')} | {paid(figures)} | {repeats(figures)} |"
        for task, figures in whole["tasks"].items()
    ]
    return HEAD.format(version=whole["version"], refused=SOLVED, warned=SUSPECT) + "\n".join(rows) + "\n"


def shown(figures: dict[str, Any], kind: str) -> str:
    """The best answer without thought, with its share in percent."""
    if "error" in figures:
        return "–"
    label, share = figures[kind] or ("", 0.0)
    answer = label.removeprefix("the constant ").replace("|", "\\|")
    return f"{100 * share:.0f} {f'`{answer[1:-1]}`' if answer[:1] in QUOTES else answer}".strip() if label else "0"


def paid(figures: dict[str, Any]) -> str:
    """What is paid although it is not the gold answer, or is not paid although it is."""
    if "error" in figures:
        return f"could not be made: {figures['error']}"
    found = [f"{label}: {100 * share:.0f}" for label, share in figures["changed"].items() if share]
    gold = figures["gold"]
    found += [f"its own gold: {100 * gold:.0f}"] if gold is not None and gold < 1 else []
    return ", ".join(found) or "nothing"


def repeats(figures: dict[str, Any]) -> str:
    words = {True: "yes", False: "no", None: "?"}
    return f"{words[figures.get('repeats')]} / {words[figures.get('repeats_here')]}"


if __name__ == "__main__":
    main()
