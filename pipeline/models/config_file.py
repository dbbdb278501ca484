"""The JSON files of a checkpoint that are no weights."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigError

FP8_SCALES = "_scale_inv"
"""What the name of a weight's scales has more than the weight's: a weight is its FP8 values *times* these."""
EXPERT_COUNTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
"""Entries by which configurations say how many experts a layer has."""


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
    return any((text.get(key) or 0) > 1 for key in EXPERT_COUNTS)


def is_block_fp8(config: Mapping[str, Any]) -> bool:
    """Whether a config.json says that weights are FP8 values with a scale a block."""
    how = config.get("quantization_config")
    return isinstance(how, dict) and how.get("quant_method") == "fp8" and bool(how.get("weight_block_size"))
