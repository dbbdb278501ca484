"""How fast rewards are scored, beside what a user would use instead.

    python -m benchmarks.rewards [--completions 480] [--out benchmarks/results/rewards.json]

Scores the same completions, in one run on one machine, with `rewards.judge_answers`, with TRL's `accuracy_reward` and
with math-verify (one after another, as they are used), and prints completions a second and their ratio:

- groups: questions with 16 completions each, whose answers repeat as those of a policy do;
- distinct: no two completions with the same question and answer, so nothing is gained by asking once;
- adversarial: as groups, but one completion in fifty attacks the scorer; each attack ends in the baselines by their own
  time limits of 5 and 10 seconds (attacks that hang them for good are left out, in their favour).

Then the memory that the pool holds, and sandboxed programs a second. The workers are started before the clock, as in
training; their start-up time is printed by itself. Nothing is remembered from one measurement to the next.
"""

import argparse
import json
import logging
import os
import platform
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from rewards import judge_answers
from rewards.grading import judging, pool

GROUP = 16
ATTACKS = (
    "9^{9^{9^{9}}}",
    "7^{9999999}",
    "((9!)!)!",
    "\\int_0^1 e^{x^{x^x}} dx",
    "\\sum_{n=1}^{100000} \\frac{1}{n^3+n+1}",
    "(x+y+z+w+1)^{60}-(x+y+z+w)^{60}",
    "\\sin(\\cos(\\tan(x^3+\\sin(x)^7)))^9+\\cos(x)^{13}-\\tan(x)^{11}",
    "(" * 150 + "5" + ")" * 150,
    "10000!^{10000}",
    "+".join(f"\\sqrt{{{n}}}" for n in range(2, 120)),
)
WORDS = (
    "so we have then the next term is now add both sides and check that it holds which gives us wait let me see".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Sample:
    """One completion with its gold answer in plain LaTeX."""

    text: str
    gold: str


def questions(count: int, random_: random.Random) -> list[tuple[str, list[str], list[str]]]:
    """Gold answers with right and wrong spellings: whole numbers (half), fractions, decimals and algebra."""
    made = []
    for number in range(count):
        a, b = random_.randint(2, 60) + 61 * number, random_.randint(2, 60)
        made.append(
            random_.choices(
                [
                    (f"{a}", [f"{a}", f"{a}.0", f"x = {a}"], [f"{a + 1}", f"{a - b}", f"-{a}"]),
                    (f"\\frac{{{a}}}{{61}}", [f"\\frac{{{a}}}{{61}}", f"{a}/61"], [f"\\frac{{61}}{{{a}}}", f"{a}"]),
                    (f"{a}.25", [f"{a}.25", f"\\frac{{{4 * a + 1}}}{{4}}"], [f"{a}.5", f"{a}"]),
                    (
                        f"{a}\\sqrt{{{b}}}",
                        [f"{a}\\sqrt{{{b}}}", f"\\sqrt{{{b}}} \\cdot {a}"],
                        [f"{b}\\sqrt{{{a}}}", f"{a + b}"],
                    ),
                    (f"x^2+{a}x+{b}", [f"x^2+{a}x+{b}", f"x(x+{a})+{b}"], [f"x^2-{a}x+{b}", f"x^2+{b}x+{a}"]),
                    (f"({a}, {b})", [f"({a}, {b})", f"\\left({a},{b}\\right)"], [f"({b}, {a})", f"{a}"]),
                ],
                weights=[50, 15, 10, 12, 8, 5],
            )[0]
        )
    return made


def completion(answer: str, random_: random.Random) -> str:
    """Reasoning of a hundred to four hundred words, then the answer in a box."""
    reasoning = " ".join(random_.choices(WORDS, k=random_.randint(100, 400)))
    return f"<think> {reasoning} </think> The answer is $\\boxed{{{answer}}}$."


def groups(count: int, random_: random.Random) -> list[Sample]:
    samples = []
    for gold, right, wrong in questions(count // GROUP, random_):
        answers = random_.choices(right, k=10) + random_.choices(wrong, k=GROUP - 10)
        samples += [Sample(completion(answer, random_), gold) for answer in answers]
    return samples


def distinct(count: int, random_: random.Random) -> list[Sample]:
    return [
        Sample(completion(random_.choice(right + wrong), random_), gold)
        for gold, right, wrong in questions(count, random_)
    ]


def adversarial(count: int, random_: random.Random) -> list[Sample]:
    samples = groups(count, random_)
    for number, index in enumerate(range(25, len(samples), 50)):
        samples[index] = Sample(completion(ATTACKS[number % len(ATTACKS)], random_), "\\sqrt{5}+1")
    return samples


def by_this_library(samples: Sequence[Sample]) -> list[float | None]:
    judging.remembered.clear()
    rows = [{"verifier": "math", "answer": sample.gold} for sample in samples]
    return [verdict.score for verdict in judge_answers([sample.text for sample in samples], rows)]


def by_trl(samples: Sequence[Sample]) -> list[float | None]:
    from trl.rewards import accuracy_reward

    texts = [[{"role": "assistant", "content": sample.text}] for sample in samples]
    return accuracy_reward(texts, [f"${sample.gold}$" for sample in samples])


def by_math_verify(samples: Sequence[Sample]) -> list[float | None]:
    from math_verify import parse, verify

    return [float(verify(parse(f"${sample.gold}$"), parse(sample.text))) for sample in samples]


def timed(score: Callable[[Sequence[Sample]], list[float | None]], samples: Sequence[Sample]) -> tuple[float, list]:
    began = time.perf_counter()
    scores = score(samples)
    return time.perf_counter() - began, scores


def programs(count: int) -> float:
    """Sandboxed runs a second of a trivial program, each a different one, one test each."""
    rows = [{"verifier": "code", "tests": [{"input": "1", "output": str(1 + number)}]} for number in range(count)]
    texts = [f"```python\nprint(int(input()) + {number})\n```" for number in range(count)]
    judging.remembered.clear()
    began = time.perf_counter()
    verdicts = judge_answers(texts, rows)
    seconds = time.perf_counter() - began
    assert all(verdict == "correct" for verdict in verdicts)
    return count / seconds


def pool_memory_mb() -> float:
    """Memory of all workers, pages they share counted once (proportional set size)."""
    supervisors = [psutil.Process(pid) for pid in pool.shared().pids()]
    family = supervisors + [child for process in supervisors for child in process.children(recursive=True)]
    return sum(process.memory_full_info().pss for process in family) / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--completions", type=int, default=480)
    arguments.add_argument("--out", type=Path, default=Path("benchmarks/results/rewards.json"))
    options = arguments.parse_args()
    logging.disable(logging.CRITICAL)
    random_ = random.Random(0)
    warm_up = distinct(8, random_)
    start_s, _ = timed(by_this_library, [Sample(completion(f"({n}, 2)", random_), "(1, 2)") for n in range(8)])
    by_trl(warm_up)
    by_math_verify(warm_up)
    results = {"cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0], "python": platform.python_version()}
    results["start_s"] = round(start_s, 2)
    for name, make in (("groups", groups), ("distinct", distinct), ("adversarial", adversarial)):
        samples = make(options.completions, random_)
        seconds, ours = timed(by_this_library, samples)
        row = {"completions": len(samples), "ours": round(len(samples) / seconds, 1)}
        for rival, score in (("trl", by_trl), ("math_verify", by_math_verify)):
            rival_seconds, theirs = timed(score, samples)
            row[rival] = round(len(samples) / rival_seconds, 1)
            row[f"times_{rival}"] = round(rival_seconds / seconds, 1)
            row[f"other_verdicts_{rival}"] = sum(one != other for one, other in zip(ours, theirs, strict=True))
        results[name] = row
        print(f"{name:12}", *(f"{key} {value}" for key, value in row.items()), sep="  ", flush=True)
    results["pool_memory_mb"] = round(pool_memory_mb(), 1)
    results["programs_per_second"] = round(programs(100), 1)
    print(*(f"{key} {value}" for key, value in results.items() if not isinstance(value, dict)), sep="\n")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
