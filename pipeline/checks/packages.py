"""Fetches the packages that only some profiles need, once a profile needs them."""

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.profile import Profile
from pipeline.core.errors import ConfigError

CHECKOUT = Path(__file__).resolve().parents[2]
INSTALL = CHECKOUT / "requirements" / "install.sh"


@dataclass(frozen=True)
class Extra:
    """Packages of `requirements/<name>.txt`, of which `module` is imported, and the settings that need them."""

    name: str
    module: str
    needed: Callable[[str, Any], bool]
    """Whether a key of the profile with this value needs them."""


def _names_puzzles(key: str, value: Any) -> bool:
    return (key == "use" and str(value).startswith("reasoning_gym:")) or (key, value) == ("verifier", "reasoning_gym")


EXTRAS = (
    Extra("quantize", "bitsandbytes", lambda key, value: key == "quantize" and value == "nf4"),
    Extra("puzzles", "reasoning_gym", _names_puzzles),
    Extra("server", "uvicorn", lambda key, value: key == "servers" and bool(value)),
    Extra("near-duplicates", "datasketch", lambda key, value: key == "duplicates" and value == "near"),
)


def fetch_extras(profile: Profile) -> None:
    """Installs the extras that the profile needs and this Python lacks. Raises ConfigError where that fails."""
    for extra, key, value in missing_extras(profile):
        lacks = f"{key}: {value} needs the package {extra.module}, which is not installed"
        if not (INSTALL.is_file() and Path(sys.prefix) == CHECKOUT / ".venv"):
            raise ConfigError(f"{lacks}. Install it: {sys.executable} -m pip install 'r1-ladder[{extra.name}]'")
        print(f"{lacks}: fetching it")
        if subprocess.run(["bash", str(INSTALL), "auto", extra.name]).returncode:
            raise ConfigError(f"{lacks}, and it could not be fetched. Mend that, then: make setup EXTRAS={extra.name}")
        importlib.invalidate_caches()


def missing_extras(profile: Profile) -> list[tuple[Extra, str, Any]]:
    """(extra, key, value): what the profile needs and this Python lacks, with the first key that needs it."""
    missing = {}
    for path, value in _settings(profile.model_dump()):
        for extra in EXTRAS:
            if extra.needed(path.rpartition(".")[2], value) and importlib.util.find_spec(extra.module) is None:
                missing.setdefault(extra.name, (extra, path, value))
    return list(missing.values())


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, value) of every setting."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        below = f"{path}.{key}" if path else str(key)
        yield below, inner
        yield from _settings(inner, below)
