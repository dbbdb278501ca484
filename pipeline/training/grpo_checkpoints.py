"""Which trainer checkpoints are whole, which one to resume from, and which ones may go."""

import os
import shutil
from pathlib import Path

MARK = "complete"
"""Empty file written last. A checkpoint without it was cut off and is not resumed from."""


def finish_checkpoint(folder: Path, keep: int) -> None:
    """Mark `folder` as whole once its files are on disk, then delete whole and broken checkpoints beyond `keep`."""
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
    (folder / MARK).touch()
    whole = _whole(folder.parent)
    for old in folder.parent.glob("checkpoint-*"):
        if old not in whole[-keep:]:
            shutil.rmtree(old)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a trainer's folder, or None."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _whole(folder: Path) -> list[Path]:
    return sorted((c for c in folder.glob("checkpoint-*") if (c / MARK).exists()), key=checkpoint_step)
