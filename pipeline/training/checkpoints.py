"""Trainer checkpoints that are complete or absent; hashes show whether one is damaged.

trainer/checkpoint-40/              whole: `hashes.json` holds size and SHA-256 of every other file
trainer/.writing/checkpoint-60/     under way; renamed into place once everything is on the disk
trainer/damaged/checkpoint-50/      found damaged on loading, and set aside
"""

import json
import logging
import shutil
from pathlib import Path

from pipeline.core.console import LOGGER
from pipeline.core.errors import RunError
from pipeline.core.files import fsync_folder, fsync_tree, hash_file, write_durably

HASHES = "hashes.json"
WRITING = ".writing"
DAMAGED = "damaged"


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def tokens_seen(checkpoint: Path) -> int:
    """Tokens that a run had seen by then, as transformers' Trainer counts them."""
    return json.loads((checkpoint / "trainer_state.json").read_bytes())["num_input_tokens_seen"]


def clear_unfinished(trainer: Path) -> None:
    """Removes what an interrupted save or removal left behind."""
    shutil.rmtree(trainer / WRITING, ignore_errors=True)


def finish_checkpoint(trainer: Path, step: int, keep: int) -> Path:
    """Moves the checkpoint from `.writing/` into place, durably, then removes all but the last `keep` intact ones.

    The new one has just been hashed and fsynced, so there is always an intact one.
    """
    name = f"checkpoint-{step}"
    written = trainer / WRITING / name
    write_durably(written / HASHES, json.dumps(file_hashes(written), indent=1) + "\n")
    fsync_tree(written)
    final = trainer / name
    if final.exists():
        _remove(final)
    written.rename(final)
    fsync_folder(trainer)
    intact = [checkpoint for checkpoint in _checkpoints(trainer) if damage(checkpoint, contents=False) is None]
    for old in _checkpoints(trainer):
        if old not in intact[-keep:]:
            _remove(old)
    return final


def last_checkpoint(trainer: Path) -> Path | None:
    """The newest sound checkpoint in a trainer's folder; None where none was ever written.

    A damaged one is set aside with a warning. Raises RunError if all are damaged: only their owner can decide to start
    over.
    """
    logger = logging.getLogger(LOGGER)
    found = []
    for checkpoint in reversed(_checkpoints(trainer)):
        harm = damage(checkpoint)
        if harm is None:
            if found:
                logger.warning("Going on from %s, the newest checkpoint that is sound.", checkpoint)
            return checkpoint
        found.append(harm)
        aside = trainer / DAMAGED / checkpoint.name
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        checkpoint.rename(aside)
        logger.warning("The checkpoint %s is damaged and was set aside in %s: %s", checkpoint, aside.parent, harm)
    if found or any((trainer / DAMAGED).glob("checkpoint-*")):
        raise RunError(
            f"No checkpoint in {trainer} is sound{': ' + '; '.join(found) if found else ''}. The damaged ones are in "
            f"{trainer / DAMAGED}. Put a sound copy of one back into {trainer}, or remove {trainer} to train this "
            "stage from its start; then run the same command."
        )
    return None


def file_hashes(folder: Path) -> dict[str, dict]:
    """Relative path -> bytes and SHA-256, for every file below `folder`."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != HASHES)
    return {str(file.relative_to(folder)): {"bytes": file.stat().st_size, "sha256": hash_file(file)} for file in files}


def damage(checkpoint: Path, hashes: dict[str, dict] | None = None, contents: bool = True) -> str | None:
    """Describe what is wrong with a checkpoint (file, expected, found); None if it is intact.

    `hashes` is what `file_hashes` gave (default: what stands in the checkpoint itself). Without `contents` only the
    presence and size of files are checked, which is fast.
    """
    try:
        expectations = json.loads((checkpoint / HASHES).read_bytes()) if hashes is None else hashes
        expected = [(name, about["bytes"], about["sha256"]) for name, about in expectations.items()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{checkpoint.name}/{HASHES} cannot be read ({error!r})"
    for name, size, digest in expected:
        file = checkpoint / name
        if not file.is_file():
            return f"{checkpoint.name}/{name} is missing"
        if (found := file.stat().st_size) != size:
            return f"{checkpoint.name}/{name} has {found} bytes, expected {size}"
        if contents and (found := hash_file(file)) != digest:
            return f"{checkpoint.name}/{name} has SHA-256 {found}, expected {digest}"
    return None


def _checkpoints(trainer: Path) -> list[Path]:
    return sorted(trainer.glob("checkpoint-*"), key=checkpoint_step)


def _remove(checkpoint: Path) -> None:
    """Moves it away before removal, so that an interrupted removal does not look like a damaged checkpoint."""
    away = checkpoint.parent / WRITING / f"old-{checkpoint.name}"
    shutil.rmtree(away, ignore_errors=True)
    away.parent.mkdir(exist_ok=True)
    checkpoint.rename(away)
    shutil.rmtree(away)
