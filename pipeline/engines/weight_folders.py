"""Weights that a trainer hands over to servers: folders, each a version, whole or not there.

A folder is written beside its place and renamed into it. Whoever writes holds a lock on the folder of all its versions,
so that what a killed run has left is known for it, and removed by the next one.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pipeline.core.buffers import dtype_of
from pipeline.core.errors import RunError

OWNER = "ladder-weights-"
"""How the folders of trainers begin."""
LOCK = "lock"
KEPT = 2
"""Versions that stay: the last one, and one that a server may still be reading."""
FILE_BYTES = 2 << 30


@dataclass(frozen=True)
class Version:
    """Weights that servers can take over. `name` is no other's, over all runs."""

    name: str
    folder: Path
    weights: int
    """How many tensors are in it."""
    digest: str
    """Equal for weights of equal values, in whatever precision they are stored."""


class WeightFolders:
    """The versions that one trainer writes. Close it to remove them."""

    def __init__(self, parent: Path):
        """Raises RunError where nothing can be written there."""
        self.token = uuid.uuid4().hex[:12]
        self.folder = parent.absolute() / f"{OWNER}{self.token}"
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _clear_abandoned(parent)
            begun = self.folder.with_name(f".{self.folder.name}")
            begun.mkdir()
            self._lock = open(begun / LOCK, "w")  # noqa: SIM115
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            begun.rename(self.folder)  # nobody takes it for abandoned before it is locked
        except OSError as error:
            raise RunError(f"{parent} (engine.weights_folder) cannot hold weights for servers: {error}") from error
        self._made = 0

    def write(self, weights: Iterator[tuple[str, torch.Tensor]], dtype: torch.dtype) -> Version:
        """A version with `weights` as `dtype`, without older ones than the one before.

        Raises RunError where there is no room for it.
        """
        name = self._next_name()
        writing, folder = self.folder / f".{name}.writing", self.folder / name
        lines: list[str] = []
        try:
            writing.mkdir()
            for number, part in enumerate(_parts(weights, dtype)):
                lines += [_line(tensor_name, tensor) for tensor_name, tensor in part.items()]
                save_file(part, writing / f"model-{number:05d}.safetensors")
            writing.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise RunError(
                f"{self.folder.parent} (engine.weights_folder) is full: it must hold the model's weights as "
                f"{str(dtype).removeprefix('torch.')} {KEPT + 1} times. Make room there, or name a larger disk."
            ) from error
        for old in self._versions()[:-KEPT]:
            shutil.rmtree(old, ignore_errors=True)
        return Version(name, folder, len(lines), _digest(lines))

    def of_checkpoint(self, checkpoint: Path, dtype: torch.dtype) -> Version:
        """A checkpoint's own weights as a version. Raises RunError where they are not whole."""
        folder, lines = checkpoint.absolute(), []
        for opened in _opened(folder):
            lines += [_line(name, opened.get_tensor(name).to(dtype_of(name, dtype))) for name in opened.keys()]  # noqa: SIM118
        return Version(self._next_name(), folder, len(lines), _digest(lines))

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()

    def _next_name(self) -> str:
        self._made += 1
        return f"{self.token}-{self._made:06d}"

    def _versions(self) -> list[Path]:
        return sorted(self.folder.glob(f"{self.token}-*"))


def check_whole(version: Version) -> None:
    """Raises RunError where a version is not what was written: to be asked before any server is."""
    count = sum(len(opened.keys()) for opened in _opened(version.folder))
    if count != version.weights:
        raise RunError(f"{version.folder} holds {count} weights and had {version.weights}: it was changed meanwhile")


def _line(name: str, tensor: torch.Tensor) -> str:
    """A few figures that differ where weights do, in one pass over them."""
    sums = torch.stack([tensor.sum(dtype=torch.float64), tensor.abs().sum(dtype=torch.float64)])
    return f"{name} {tuple(tensor.shape)} {sums.tolist()}"


def _digest(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _parts(weights: Iterator[tuple[str, torch.Tensor]], dtype: torch.dtype) -> Iterator[dict[str, torch.Tensor]]:
    """Of at most `FILE_BYTES` each, but for one tensor that is larger."""
    part: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in weights:
        here = tensor.detach().to("cpu", dtype_of(name, dtype)).contiguous()
        if part and size + here.nbytes > FILE_BYTES:
            yield part
            part, size = {}, 0
        part[name] = here
        size += here.nbytes
    if part:
        yield part


def _opened(folder: Path) -> Iterator[Any]:
    """Its safetensors files, one after the other. Opening one reads its header, and finds whether it was cut off."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise RunError(f"{folder} has no safetensors files for servers to load")
    for file in files:
        try:
            with safe_open(file, framework="pt") as opened:
                yield opened
        except (SafetensorError, OSError) as error:
            raise RunError(f"{file} is damaged or gone ({error}); servers would not load it") from error


def _clear_abandoned(parent: Path) -> None:
    """Removes what trainers that are gone have left: nobody holds their locks."""
    for folder in parent.glob(f"{OWNER}*"):
        with contextlib.suppress(OSError), open(folder / LOCK, "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.asynccontextmanager
async def alone(folder: Path, name: str) -> AsyncIterator[None]:
    """Lets one process at a time do what `name` says, among those that see the folder."""
    with open(folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.{LOCK}", "w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.05)
        yield


def default_parent(here: bool) -> Path:
    """Where weights go where a profile names no folder: into memory for servers of this machine."""
    return Path("/dev/shm") if here and os.access("/dev/shm", os.W_OK) else Path("runs/.weights")
