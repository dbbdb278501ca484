"""The JSON files of a checkpoint that are no weights."""

import json
from pathlib import Path

from pipeline.core.errors import ConfigError


def read_config(file: Path) -> dict:
    """A JSON file of a checkpoint's configuration. Raises ConfigError where it holds no mapping."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:  # of which broken JSON and broken UTF-8 are kinds
        raise ConfigError(
            f"{file} is not valid JSON ({error}). Save the model again, or fetch the file anew."
        ) from None
    if not isinstance(config, dict):
        raise ConfigError(
            f"{file} holds {type(config).__name__}, where a mapping of settings was expected. Save the model again."
        )
    return config


def has_experts(checkpoint: Path) -> bool:
    """Whether the checkpoint's model is a mixture of experts."""
    config = read_config(checkpoint / "config.json")
    text = config.get("text_config") or config
    keys = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any((text.get(key) or 0) > 1 for key in keys)
