"""The user's own code behind a name such as `file.py:name` or `package.module:name`, found without running it."""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

LADDER_PACKAGES = ("pipeline", "rewards", "data_recipes", "stages")
"""The ladder's own: a manifest says which commit of them made a stage."""


def own_code(use: str) -> list[Path]:
    """The file that `use` names, then every file of the user's that it imports, directly or not. Empty for a name
    without a module, and for a module that is installed: a manifest says which version of it made a stage."""
    where, separator, _ = use.rpartition(":")
    if not separator:
        return []
    first = [Path(where).expanduser()] if where.endswith(".py") else list(_module_files(where, _roots()))
    found: dict[Path, None] = {}
    waiting = first
    while waiting:
        path = waiting.pop(0)
        if path in found or not path.is_file():
            continue
        found[path] = None
        waiting += _imported(path)
    return list(found)


def _roots() -> list[Path]:
    """Where Python looks for modules, but for what is installed."""
    installed = [Path(prefix).resolve() for prefix in {sys.prefix, sys.base_prefix}]
    roots = [Path(entry or ".") for entry in dict.fromkeys(["", *sys.path])]
    return [root for root in roots if root.is_dir() and not any(root.resolve().is_relative_to(p) for p in installed)]


def _module_files(module: str, roots: list[Path]) -> Iterator[Path]:
    """The file of a module and those of the packages that it lies in, from the first root that has it."""
    parts = module.split(".")
    if parts[0] in LADDER_PACKAGES:
        return
    for root in roots:
        inner = root.joinpath(*parts)
        file = next((path for path in (inner.with_suffix(".py"), inner / "__init__.py") if path.is_file()), None)
        if file is not None:
            packages = (root.joinpath(*parts[:depth]) / "__init__.py" for depth in range(1, len(parts)))
            yield from (path for path in (*packages, file) if path.is_file())
            return


def _imported(path: Path) -> list[Path]:
    """Files of the user's that a file imports: beside it, or where Python looks."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError):
        return []  # whoever loads it says so
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules, roots = [alias.name for alias in node.names], [path.parent, *_roots()]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            modules = [f"{base}.{alias.name}".strip(".") for alias in node.names] + [base] * bool(base)
            above = Path(os.path.normpath(path.parent.joinpath(*[".."] * (node.level - 1)))) if node.level else None
            roots = [above] if above else [path.parent, *_roots()]
        else:
            continue
        found += [file for module in modules for file in _module_files(module, roots)]
    return found
