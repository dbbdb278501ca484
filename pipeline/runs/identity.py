"""The inputs that a stage's result depends on; their hash decides whether the stage is done or stale."""

import hashlib
import re
from pathlib import Path
from typing import Any

from data_recipes.pocket.bases import base_folder
from pipeline.config.profile import Profile
from pipeline.core.files import hash_file
from pipeline.ladder import StageDefinition
from pipeline.models.sources import gguf_file, inner_source

LARGE_FILE_BYTES = 64 * 2**20
"""Larger files are compared by size and modification time rather than by content, to keep `status` fast."""

_PYTHON_REFERENCE = re.compile(r"^(?P<path>[^:]+\.py):[A-Za-z_]\w*$")
_FILE_REFERENCE = re.compile(r"^(?:jsonl|csv|parquet|folder|pickled|gguf):(?P<path>.+)$")


def resolved_config(profile: Profile, stage: StageDefinition) -> dict[str, Any]:
    """Everything that the stage's result depends on except its input stages; includes the user's own files."""
    section = getattr(profile.stages, stage.id)
    config: dict[str, Any] = {"stage": section.model_dump(mode="json")}
    for key in stage.shared:
        value = getattr(profile, key)
        if key == "questions":
            groups = set(getattr(section, "questions", None) or {}) | _other_groups(section)
            value = {name: profile.questions[name] for name in sorted(groups)}
            value = {name: [source.model_dump(mode="json") for source in group] for name, group in value.items()}
        config[key] = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    heldout = getattr(section, "heldout", None)
    if heldout is not None:
        evaluation = profile.stages.evaluate
        config["heldout"] = {
            "set": evaluation.sets[heldout.set].model_dump(mode="json"),
            "sampling": evaluation.sampling.model_dump(mode="json"),
            "seed": evaluation.seed,
        }
    if "dtype" in stage.shared:
        config["engine"] = {"kind": profile.engine.kind, "dtype": profile.engine.dtype}
    files = dict(referenced_files(config))
    named = {file.resolve() for file in files.values()}
    files |= {name: file for name, file in section.own_files().items() if file.resolve() not in named}
    config["files"] = {name: _fingerprint(file) for name, file in files.items()}
    return config


def _other_groups(section: Any) -> set[str]:
    groups = {section.general_group} if hasattr(section, "general_group") else set()
    return groups | {scorer.group for scorer in getattr(section, "scorers", {}).values()}


def referenced_files(value: Any) -> list[tuple[str, Path]]:
    """(reference as written, path) of each file or folder of the user's that a configuration names."""
    if isinstance(value, dict):
        found = [found for item in value.values() for found in referenced_files(item)]
        path = _benchmark_path(value)
        return [*found, (path, Path(path))] if path else found
    if isinstance(value, list | tuple):
        return [found for item in value for found in referenced_files(item)]
    if isinstance(value, str):
        match = _PYTHON_REFERENCE.match(value) or _FILE_REFERENCE.match(value)
        if match:
            return [(value, Path(match["path"]))]
        if value.startswith(("cut:", "as-qwen2:")):
            return [(value, path) for _, path in referenced_files(inner_source(value))]
        if value.startswith("package:"):
            return [(value, gguf_file(value))]
        if value.startswith("pocket:"):
            return [(value, base_folder(value.removeprefix("pocket:")))]
    return []


def _benchmark_path(source: dict) -> str | None:
    """The local file of a question source that is a benchmark."""
    if not str(source.get("use", "")).startswith("benchmark:"):
        return None
    return source.get("args", {}).get("path")


def _fingerprint(path: Path) -> str:
    if not path.exists():
        return "missing"
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file()):
        status = file.stat()
        told_by = hash_file(file) if status.st_size <= LARGE_FILE_BYTES else f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"{file.relative_to(path) if file != path else file.name}\0{told_by}\0".encode())
    return digest.hexdigest()
