"""What a finished stage says of itself, and how its identity is computed."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.core.errors import RunError
from pipeline.core.files import TEMPORARY, below, hash_file, hash_json, write_durably

MANIFEST = "manifest.json"


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
    """Of all attempts, interrupted ones too."""
    attempts: int = 1
    peak_memory_bytes: int
    """The most resident memory of the leading process while the stage ran."""
    tokens: dict[str, int]
    metrics: dict[str, Any]
    digest: str | None = None
    """SHA-256 of everything above, so that a damaged manifest is detected (None in older runs)."""

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


def _digest(manifest: str | bytes) -> str:
    return hash_json({key: value for key, value in json.loads(manifest).items() if key != "digest"})


def _damaged(path: Path, why: str) -> RunError:
    return RunError(f"{path} is damaged: {why}. Move the folder {path.parent} away and run the stage again.")


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
