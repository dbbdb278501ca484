"""The page of silent faults names a test for each, and the tests are there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).resolve().parent
PAGE = TESTS.parent / "docs/silent-faults.md"


def rows() -> list[list[str]]:
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    return [
        row for row in ([cell.strip() for cell in line.strip("|").split("|")] for line in lines) if row[0] != "fault"
    ]


def test_every_fault_names_a_test_that_is_there():
    assert len(rows()) > 50
    missing = []
    for fault, _, named in rows():
        found = re.fullmatch(r"`(?P<file>[\w/]+\.py)::(?P<name>test_\w+)`", named)
        file = TESTS / found["file"] if found else None
        if file is None or not file.is_file() or found["name"] not in defined(file):
            missing.append(f"{fault}: {named}")
    assert not missing, "\n".join(missing)


def defined(file: Path) -> set[str]:
    return {node.name for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)}
