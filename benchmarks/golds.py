"""Gold answers of files that a user names: judged by their own verifier, in many forms, beside math-verify.

    python -m benchmarks.golds FILE … [--answer COLUMN] [--most N] [--without-math-verify] [--check]

A file is `.jsonl`, `.csv` or `.parquet`; a `.json` file holds a list of rows. The gold is the column `answer` (or
`final_answer`, `gt`, `solution`), a dotted path where it is nested. Prints for each file: the share of golds that are
right by their own verifier in each of seven forms, of surely right other forms that are credited, and of surely wrong
answers that are. `--check` prints instead how long the check of golds takes that `make check` does; `--against FOLDER`
also in another checkout of this repository, such as `git worktree add FOLDER COMMIT` makes. Seconds are of CPU time,
workers included, which other work on the machine does not change much.
"""

import argparse
import json
import logging
import os
import re
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.answers import Pair, by_math_verify, ours
from data_recipes.sources.nested import Absent, look_up
from data_recipes.sources.tables import read_file
from pipeline.core.errors import ConfigError
from rewards.grading.number_words import read_number

FORMS = {
    "block": "<answer> {} </answer>",
    "box": "So \\boxed{{{}}}.",
    "display": "The final answer is:\n\\[\n\\boxed{{{}}}\n\\]",
    "phrase": "The answer is {}.",
    "bold label": "**Final Answer:** {}",
    "box in dollars": "Therefore, the answer is $\\boxed{{{}}}$.",
    "block with a box": "<answer> $\\boxed{{{}}}$ </answer>",
}
"""Where a gold answer is written, each behind some reasoning."""
COLUMNS = ("answer", "final_answer", "gt", "ground_truth", "solution")


def golds_of(path: Path, column: str | None, most: int) -> list[str]:
    """The gold answers of a file, boxes and what precedes `####` taken off. Raises ConfigError for no such column."""
    found = []
    for row in rows_of(path):
        gold = gold_in(row, path, column)
        if gold:
            found.append(gold)
        if len(found) == most:
            break
    return found


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        try:
            yield from json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: not a JSON list of rows ({error}).") from None
        return
    for where, row in read_file(path):
        if isinstance(row, ConfigError):
            raise ConfigError(f"{where}: {row}")
        yield row


def gold_in(row: dict[str, Any], path: Path, column: str | None) -> str:
    name = column or next((known for known in COLUMNS if known in row), None)
    try:
        value = look_up(row, name or "answer")
    except Absent as absent:
        there = f"There are {', '.join(absent.there) or row}. Name one with --answer."
        raise ConfigError(f"{path}: there is no column {name or ' or '.join(COLUMNS)}. {there}") from None
    if isinstance(value, list):
        value = ", ".join(map(str, value))
    text = str(value if value is not None else "").strip()
    return re.sub(r"^\$([^$]*)\$\.?$", r"\1", text.rpartition("####")[2].strip())


def surely_right(gold: str) -> list[str]:
    """Other ways to write a gold answer, none of which changes what it says."""
    forms = [f"${gold}$", f"\\({gold}\\)"] if "$" not in gold and "\\(" not in gold else []
    spellings = (("\\frac", "\\dfrac"), ("\\le ", "\\leq "), (" ", "  "))
    forms += [gold.replace(one, other) for one, other in spellings if one in gold]
    number = read_number(gold)
    if number is not None and not number.percent:
        value = number.value
        forms += [
            f"\\frac{{{2 * value.numerator}}}{{{2 * value.denominator}}}",
            f"{value.numerator}/{value.denominator}",
        ]
        if value.denominator == 1:
            forms += [f"{value.numerator:,}", f"{value.numerator}.0"]
    return forms


def surely_wrong(gold: str) -> list[str]:
    """Answers that are not a gold answer that is a plain number or one of its relatives."""
    number = read_number(gold)
    if number is None or number.percent:
        return []
    value = number.value
    wrong = [value + 1, -value, value * 3, value + value / 7] if value else [value + 1, value - 2]
    return [f"{one.numerator}/{one.denominator}" if one.denominator > 1 else str(one.numerator) for one in wrong] + [
        f"{gold} or {value + 1}", f"not {gold}", f"x > {gold}", f"{gold}, {value + 2}",
    ]  # fmt: skip


def completion(form: str, answer: str) -> str:
    return "<think> Let me see. </think> " + FORMS[form].format(answer)


def measured(golds: Sequence[str], judge: Any) -> dict[str, tuple[int, int]]:
    """What was measured -> (how many were credited, of how many)."""
    kinds: list[str] = []
    pairs: list[Pair] = []
    for gold in golds:
        for form in FORMS:
            kinds.append(form)
            pairs.append(Pair(gold, completion(form, gold), True))
        for kind, answers in (("surely right", surely_right(gold)), ("surely wrong", surely_wrong(gold))):
            kinds += [kind] * len(answers)
            pairs += [Pair(gold, completion("block", answer), kind == "surely right") for answer in answers]
    credited, all_of = Counter(), Counter(kinds)
    for kind, pair, given in zip(kinds, pairs, judge(pairs), strict=True):
        credited[kind] += given
        if given is not pair.right and judge is ours:
            OFF.append((kind, pair))
    return {kind: (credited[kind], all_of[kind]) for kind in (*FORMS, "surely right", "surely wrong")}


OFF: list[tuple[str, Pair]] = []


def check_in(checkout: Path, golds: Sequence[str]) -> str:
    """What the check of the golds takes and finds by the code of a checkout, in a process of its own."""
    rows = [{"id": str(place), "domain": "golds", "question": "?", "answer": gold, "verifier": "math"}
            for place, gold in enumerate(golds)]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", CHECK], cwd=checkout, input=json.dumps(rows), capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )  # fmt: skip
    if done.returncode:
        raise ConfigError(f"{checkout}: the check failed: {done.stderr.strip().splitlines()[-1:]}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, before = used.ru_utime + used.ru_stime, sum(spent)
    spent.append(seconds - before)
    return f"{spent[-1]:.1f} CPU seconds, {done.stdout.strip()} cannot be used"


spent: list[float] = []
"""CPU seconds of the checks so far."""
CHECK = """
import json, sys
try:
    from data_recipes.cleaning.answers import unreadable_answers
    from data_recipes.question import Question
    from rewards.grading import pool
except ImportError:  # as the folders lay before
    from data_recipes.answers import unreadable_answers
    from data_recipes.rows import Question
    from rewards import pool
rows = [Question(**row) for row in json.load(sys.stdin)]
print(len(unreadable_answers(rows)))
for worker in pool.shared()._workers:  # a killed one would not say what it used
    worker.process.stdin.close()
    worker.process.wait()
"""
"""The check by the code of any checkout."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="+", type=Path)
    arguments.add_argument("--answer", help="the column of the gold answers")
    arguments.add_argument("--most", type=int, default=-1, help="golds of a file")
    arguments.add_argument("--wrong", type=int, default=20, help="wrong verdicts of ours that are printed")
    arguments.add_argument("--without-math-verify", action="store_true")
    arguments.add_argument("--check", action="store_true")
    arguments.add_argument("--against", type=Path, help="a checkout of another commit, whose check is timed as well")
    options = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    for path in options.files:
        golds = golds_of(path, options.answer, options.most)
        if options.check:
            for checkout in (Path(__file__).resolve().parents[1], options.against):
                if checkout is not None:
                    print(f"{checkout}: {path.name}: {len(golds)} golds, {check_in(checkout, golds)}", flush=True)
            continue
        judges = {"ours": ours} | ({} if options.without_math_verify else {"math-verify": by_math_verify})
        for name, judge in judges.items():
            for kind, (credited, count) in measured(golds, judge).items():
                share = f"{credited / count:.2%}" if count else "—"
                print(f"{path.name:24}{name:14}{kind:20}{credited:8} of {count:7}{share:>10}", flush=True)
    for kind, pair in OFF[: options.wrong]:
        print(f"    {kind}: {pair.gold!r} <= {pair.completion.partition('</think> ')[2]!r}")


if __name__ == "__main__":
    main()
