"""Verifying programs: the code of an answer, run against the row's tests in the sandbox.

A row's `tests` is a list (or the JSON of one) of `{"input": …, "output": …}` for standard input and output, and of
`{"assert": …}` (or the text alone) for pieces of Python with asserts; `code_tests` reads other forms. Beside it a row
may have `entry_point` (the function under test), `float_tolerance` (numbers in the output may differ by it, relatively
or absolutely), `time_limit_s` (CPU seconds a test; 5) and `memory_limit_mb` (512). Output must be the whole expected
output, white space at the end of lines and of all apart.
"""

import math
from typing import Any

from pipeline import sandbox
from rewards.grading.code_tests import read_tests
from rewards.grading.programs import last_program, with_method
from rewards.grading.verdict import Verdict
from rewards.grading.verifiers import Job, Judged

START_S = 65.0
"""What a test may take to start beside its own wall clock, before the worker is given up."""


def wall_s(cpu_s: int) -> float:
    """The wall clock of one test: far above its CPU seconds, so that a busy machine fails no program that is right."""
    return 4.0 * cpu_s + 2.0


def code(text: str, row: dict[str, Any]) -> Judged:
    """A Python program that passes every one of the row's tests."""
    tests = read_tests(row.get("tests"), row)
    if tests is None:
        return Verdict.GOLD_UNUSABLE
    program = last_program(text)
    if program is None:
        return Verdict.NO_ANSWER
    function = next((test["function"] for test in tests if "function" in test), None)
    if function:
        program = with_method(program, function)
    cpu_s, memory_mb = math.ceil(row.get("time_limit_s") or 5), int(row.get("memory_limit_mb") or 512)
    payload = {
        "program": program,
        "tests": tests,
        "entry_point": row.get("entry_point") or function,
        "float_tolerance": row.get("float_tolerance"),
        "cpu_s": cpu_s,
        "memory_mb": memory_mb,
    }
    return [Job("rewards.grading.code:check", payload, deadline_s=len(tests) * (wall_s(cpu_s) + START_S))]


def check(payload: dict[str, Any]) -> str:
    """Run the program against its tests, one after another, until one fails; for a worker process only."""
    cpu_s = payload["cpu_s"]
    limits = sandbox.Limits(cpu_s=cpu_s, wall_s=wall_s(cpu_s), memory_mb=payload["memory_mb"])
    program, tests = payload["program"], payload["tests"]
    for test in (test for test in tests if "input" in test):
        run = sandbox.run(program, test["input"], limits)
        said = run.stdout.decode(errors="replace")
        if run.ending is not sandbox.Ending.FINISHED or not same_output(
            test["output"], said, payload["float_tolerance"]
        ):
            return Verdict.WRONG
    assertions = [test["assert"] for test in tests if "assert" in test]
    if assertions and not sandbox.run_assertions(program, assertions, payload["entry_point"], limits).passed:
        return Verdict.WRONG
    return Verdict.CORRECT


def same_output(expected: str, said: str, tolerance: float | None) -> bool:
    """Whether the program said all of what was expected and nothing else."""
    ours, theirs = lines_of(expected), lines_of(said)
    if ours == theirs:
        return True
    if tolerance is None or len(ours) != len(theirs):
        return False
    pairs = [(left.split(), right.split()) for left, right in zip(ours, theirs, strict=True)]
    return all(
        len(left) == len(right) and all(same_token(*tokens, tolerance) for tokens in zip(left, right, strict=True))
        for left, right in pairs
    )


def lines_of(output: str) -> list[str]:
    return [line.rstrip() for line in output.rstrip().replace("\r\n", "\n").split("\n")]


def same_token(expected: str, said: str, tolerance: float) -> bool:
    if expected == said:
        return True
    try:
        return math.isclose(float(expected), float(said), rel_tol=tolerance, abs_tol=tolerance)
    except ValueError:
        return False
