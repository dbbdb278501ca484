"""Which tensors the files of a checkpoint hold. Importing this loads no torch."""

from pathlib import Path


def stored_tensors(checkpoint: Path) -> dict[str, Path]:
    """The name of every tensor in the checkpoint's safetensors files, and the file that it is in."""
    from safetensors import safe_open

    places: dict[str, Path] = {}
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as stored:
            places |= dict.fromkeys(stored.keys(), file)
    return places
