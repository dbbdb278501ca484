"""The folder of a run: finished stages, partial ones, replaced ones, and the lock.

runs/<run>/<stage>/                       finished: has a manifest, was renamed into place whole
runs/<run>/.partial/<stage>-<hash>/       under way, for one configuration and one set of inputs
runs/<run>/.replaced/<stage>-<n>/         finished once, then made again from something else
"""

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pipeline.config.loading import PROFILE_FOLDER
from pipeline.core.errors import ConfigError, RunError
from pipeline.core.files import fsync_folder, fsync_tree, write_durably
from pipeline.core.manifest import MANIFEST, Manifest

RUNS = Path("runs")
LOCKS = Path("/proc/locks")
"""The kernel's list: `1: FLOCK  ADVISORY  WRITE 4025 fd:00:2147269 0 EOF`, with process and inode."""


class RunFolder:
    def __init__(self, name: str, profile: str, profile_file: str = ""):
        """`profile` is the name of the profile that it is made with, `profile_file` its file."""
        if not name or name.startswith(".") or "/" in name:
            raise ConfigError(
                f"RUN={name!r} becomes a folder name in {RUNS}/: give a plain name such as {profile or 'pocket'}."
            )
        self.name, self.profile, self.path = name, profile, RUNS / name
        self.profile_file = profile_file or profile

    @classmethod
    def existing(cls, name: str) -> "RunFolder":
        """The run of that name, with the profile that made it. Raises ConfigError where there is none."""
        run = cls(name, "")
        about = run._about()
        if about is None:
            there = sorted(path.parent.name for path in RUNS.glob("*/run.json"))
            raise ConfigError(f"There is no run '{name}' in {RUNS}/. Runs: {', '.join(there) or 'none'}.")
        return cls(name, about["profile"], about.get("file", ""))

    def owner(self) -> str | None:
        """The profile that made the folder, None where there is no run yet."""
        about = self._about()
        return about and about["profile"]

    def _about(self) -> dict[str, str] | None:
        """The profile that made the folder by `profile`, its name, and `file`, its file (not in older runs)."""
        about = self.path / "run.json"
        if not about.is_file():
            return None
        try:
            found = json.loads(about.read_text(encoding="utf-8"))
            if isinstance(found["profile"], str) and isinstance(found.get("file", ""), str):
                return found
        except (ValueError, KeyError, TypeError, AttributeError):
            pass
        raise RunError(
            f'{about} is damaged. Expected {{"profile": NAME}}, the profile that made the run: write it again.'
        )

    def as_variables(self) -> str:
        """What names this run to `make`, with a blank before it: PROFILE, and RUN where it is not the profile's own."""
        file = Path(self.profile_file)
        profile = file.stem if file.parent == PROFILE_FOLDER else str(file)
        return f" PROFILE={profile}{'' if self.name == self.profile else f' RUN={self.name}'}"

    def described(self) -> str:
        """How large the folder is, how many of its stages are finished, and when it was last written to."""
        files = [path.stat() for path in self.path.rglob("*") if path.is_file() and not path.is_symlink()]
        size = sum(file.st_size for file in files)
        changed = max((file.st_mtime for file in files), default=self.path.stat().st_mtime)
        finished = len(list(self.path.glob(f"*/{MANIFEST}")))
        when = datetime.fromtimestamp(changed).strftime("%Y-%m-%d %H:%M")
        return f"{size / 2**20:.1f} MiB, {finished} finished stages, last written to on {when}"

    def claim(self) -> None:
        """Makes the folder, or refuses one that another profile made."""
        owner = self.owner()
        if owner is not None:
            if owner != self.profile:
                raise ConfigError(
                    f"{self.path} was made by the profile '{owner}', not by '{self.profile}'. Give this profile a run "
                    f"of its own (RUN=another-name), go on with PROFILE={self._about().get('file', owner)}, or remove "
                    f"it with `make clean-run RUN={self.name}`."
                )
            if "file" in self._about():
                return
        self.path.mkdir(parents=True, exist_ok=True)
        write_durably(self.path / "run.json", json.dumps({"profile": self.profile, "file": self.profile_file}) + "\n")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Held while stages are written. The system frees it when the process dies, however it dies."""
        with (self.path / ".lock").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise RunError(
                    f"Another command (process {file.read().strip() or 'unknown'}) is writing {self.path}. "
                    "Wait for it, stop it, or give this command another RUN=."
                ) from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield

    def writer(self) -> int | None:
        """The process that holds the lock, None where none does. Taking it to find out would keep a command from it."""
        lock = self.path / ".lock"
        try:
            held = LOCKS.read_text(encoding="utf-8")
            inode, pid = lock.stat().st_ino, int(lock.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return pid if re.search(rf" FLOCK .* {pid} \S+:{inode} ", held) else None

    def stage(self, stage_id: str) -> Path:
        return self.path / stage_id

    def partial(self, stage_id: str, key: str) -> Path:
        return self.path / ".partial" / f"{stage_id}-{key[:16]}"

    def finish(self, stage_id: str, partial: Path) -> None:
        """Puts a whole stage in its place, durably and without its scratch; what stood there is kept in `.replaced/`.

        Scratch goes only now, with the manifest written: a crash while a large stage is hashed costs no training.
        """
        _remove_unlisted(partial, Manifest.read(partial))
        fsync_tree(partial)
        final = self.stage(stage_id)
        if final.exists():
            replaced = self.path / ".replaced"
            replaced.mkdir(exist_ok=True)
            number = 1 + max((int(path.name.rpartition("-")[2]) for path in replaced.glob(f"{stage_id}-*")), default=0)
            final.rename(replaced / f"{stage_id}-{number}")
        partial.rename(final)
        fsync_folder(self.path)

    def settle(self) -> None:
        """Finishes stages that a crash caught between being whole and being renamed."""
        for partial in (self.path / ".partial").glob("*"):
            if (partial / MANIFEST).is_file():
                manifest = Manifest.read(partial)
                self.finish(manifest.stage, partial)

    def remove_if_agreed(self) -> int:
        """Says how large and old the run is, asks in a terminal, and removes it. The exit code: 1 if it is kept."""
        if not self.path.exists():
            print(f"There is no {self.path}.")
            return 0
        print(f"{self.path}: {self.described()}.")
        if sys.stdin.isatty() and input(f"Remove {self.path}? [y/N] ").strip().lower() not in ("y", "yes"):
            print(f"{self.path} is kept.")
            return 1
        with self.lock():
            self.remove()
        print(f"Removed {self.path}.")
        return 0

    def remove(self) -> None:
        shutil.rmtree(self.path)


def _remove_unlisted(folder: Path, manifest: Manifest) -> None:
    """Removes the files that the manifest does not list, and folders that are empty without them."""
    listed = {folder / name for name in (*manifest.outputs, *manifest.records, MANIFEST)}
    for path in sorted(folder.rglob("*"), reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in listed:
            path.unlink()
