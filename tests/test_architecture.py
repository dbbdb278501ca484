"""The import contracts of pyproject.toml, and what reading a profile may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("pipeline", "rewards", "data_recipes", "stages")
HEAVY = {"torch", "transformers", "trl", "vllm", "datasets", "peft", "rich"}


def test_the_import_contracts_hold():
    """`pipeline.runs` loads stages by name, so that no import points up."""
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("profile", sorted(path.stem for path in (ROOT / "configs").glob("*.yaml")))
def test_reading_a_profile_loads_no_runtime(profile):
    """At run time too: the contract above reads only the imports that are written."""
    code = (
        "import sys; from pipeline.config.loading import load_profile; load_profile(sys.argv[1]); "
        f"print(*sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, profile], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_few_imports_of_our_own_code_stand_inside_functions():
    """Those in `cli.py` keep `make help` and `status` quick; elsewhere each is an exception."""
    inside = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for package in OURS
        for path in (ROOT / package).rglob("*.py")
        if path.name != "cli.py"
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if _imported(node) & set(OURS)
    ]
    assert len(set(inside)) <= 10, "\n".join(sorted(set(inside)))


def _imported(node: ast.AST) -> set[str]:
    if isinstance(node, ast.ImportFrom):
        return {(node.module or "").partition(".")[0]}
    return {name.name.partition(".")[0] for name in node.names} if isinstance(node, ast.Import) else set()


def test_files_stay_short_enough_to_read():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in (*OURS, "benchmarks", "requirements", "tests")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert not {path: lines for path, lines in lengths.items() if lines > 350}
