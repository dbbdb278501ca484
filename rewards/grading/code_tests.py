"""The tests of a program, in the forms in which data sets keep them.

Ours: `{"input": …, "output": …}` and `{"assert": …}`. Read as well: APPS and TACO (`{"inputs": […], "outputs": […]}`,
with `fn_name` for calls), open-r1, PRIME and LiveCodeBench (`type` or `testtype` beside `input` and `output`; a list of
them under `test_cases`), `{"assert_case": […]}`, HumanEval's and LeetCode's `def check(candidate)`, MBPP's
`test_imports` and `test_setup_code`.
"""

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

CALLS = frozenset(("function_call", "functional", "function", "call", "call_based", "fn"))
TYPES = ("type", "testtype", "test_type")
NOTES = frozenset((*TYPES, "fn_name", "metadata", "id", "weight", "explanation", "language", "name"))
MAX_LITERAL = 1_000_000


def read_tests(tests: Any, row: Mapping[str, Any] | None = None) -> list[dict[str, str]] | None:
    """The tests in one form; None where there are none or one of them cannot be used."""
    row = row or {}
    if isinstance(tests, str):
        tests = from_text(tests)
    if isinstance(tests, Mapping):
        tests = tests["test_cases"] if "test_cases" in tests else from_columns(tests)
    if not isinstance(tests, list | tuple) or not tests:
        return None
    setup = setup_of(row)
    read = [read_test(test, row, setup) for test in tests]
    return read if None not in read else None


def from_text(text: str) -> Any:
    """Tests that a cell holds as JSON, or a piece of Python with asserts."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return [text] if "assert" in text and is_python(text) else None


def from_columns(tests: Mapping[str, Any]) -> Sequence[Any] | None:
    """Tests as columns of equal length, one entry a test."""
    if "assert_case" in tests or "asserts" in tests:
        cases = tests.get("assert_case") or tests.get("asserts")
        return list(cases) if isinstance(cases, list | tuple) else None
    inputs, outputs = tests.get("inputs", tests.get("input")), tests.get("outputs", tests.get("output"))
    if isinstance(inputs, str) and isinstance(outputs, str):
        return [{"input": inputs, "output": outputs}]
    if not isinstance(inputs, list | tuple) or not isinstance(outputs, list | tuple) or len(inputs) != len(outputs):
        return None
    name = tests.get("fn_name")
    return [
        {"input": given, "output": wanted, "fn_name": name, "wrapped": True}
        for given, wanted in zip(inputs, outputs, strict=True)
    ]


def read_test(test: Any, row: Mapping[str, Any], setup: str) -> dict[str, str] | None:
    if isinstance(test, str):
        test = {"assert": test}
    if not isinstance(test, Mapping):
        return None
    given = {name: value for name, value in test.items() if value is not None}
    if isinstance(given.get("assert"), str) and not set(given) - {"assert"} - NOTES:
        code = setup + called(given["assert"], row)
        return {"assert": code} if is_python(code) else None
    if not {"input", "output"} <= set(given) or set(given) - {"input", "output", "wrapped"} - NOTES:
        return None
    kind = next((str(given[name]).lower() for name in TYPES if name in given), "")
    name = given.get("fn_name") or (function_of(row) if kind in CALLS else None)
    if kind in CALLS and not name:
        return None
    if name:
        wrapped = bool(given.get("wrapped")) or kind in CALLS
        return call(str(name), given["input"], given["output"], setup, wrapped)
    ours, theirs = lines(given["input"]), lines(given["output"])
    return None if ours is None or theirs is None else {"input": ours, "output": theirs}


def function_of(row: Mapping[str, Any]) -> str | None:
    """The function that a row's tests call: a column of it, or LiveCodeBench's `func_name` in its metadata."""
    metadata = row.get("metadata")
    if isinstance(metadata, str):
        try:
            metadata = json.loads(metadata)
        except (ValueError, RecursionError):
            metadata = None
    named = metadata.get("func_name") if isinstance(metadata, Mapping) else None
    return row.get("entry_point") or row.get("fn_name") or named


def lines(value: Any) -> str | None:
    """Standard input or output: text, or a list of its lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return None


def call(name: str, given: Any, wanted: Any, setup: str, wrapped: bool) -> dict[str, str] | None:
    """An assertion that a function gives what is wanted for its arguments, with the function's name."""
    arguments = values(given)
    expected = value(wanted)
    if not re.fullmatch(r"[A-Za-z_][\w.()]*", name) or arguments is None:
        return None
    if len(repr(arguments)) + len(repr(expected)) > MAX_LITERAL:
        return None
    code = f"result = {name}(*{arguments!r})\n"
    if wrapped and isinstance(expected, list) and len(expected) == 1:  # APPS and those after it put some results so
        code += f"assert result == {expected!r} or result == {expected[0]!r}"
    else:
        code += f"assert result == {expected!r}"
    return {"assert": setup + code, "function": name}


def values(given: Any) -> list[Any] | None:
    """The arguments of a call: a list of them, or their JSON, one a line."""
    if isinstance(given, list | tuple):
        return list(given)
    if not isinstance(given, str):
        return None
    try:
        return [json.loads(line) for line in given.split("\n") if line.strip()]
    except (ValueError, RecursionError):
        return None


def value(wanted: Any) -> Any:
    if not isinstance(wanted, str):
        return wanted
    try:
        return json.loads(wanted)
    except (ValueError, RecursionError):
        return wanted


def called(code: str, row: Mapping[str, Any]) -> str:
    """A test that only defines `check(candidate)`, with the call of it."""
    name = row.get("entry_point")
    if not re.search(r"^def check\(", code, re.MULTILINE) or re.search(r"^check\(", code, re.MULTILINE) or not name:
        return code
    return f"{code}\n\ncheck({name})\n"


def setup_of(row: Mapping[str, Any]) -> str:
    """Imports and definitions that stand before each test."""
    imports = row.get("test_imports") or []
    pieces = [imports] if isinstance(imports, str) else list(imports)
    pieces.append(row.get("test_setup_code") or "")
    return "".join(f"{piece}\n" for piece in pieces if isinstance(piece, str) and piece.strip())


def is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
