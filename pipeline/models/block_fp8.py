"""Bases that are published in block-wise FP8, as DeepSeek-V3 and R1 are: made plain, one file of weights at a time."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from pipeline.core.errors import ConfigError
from pipeline.core.fp8 import dequantised
from pipeline.models.config_file import FP8_SCALES, read_config

INDEX = "model.safetensors.index.json"


def dequantise_checkpoint(folder: Path, dtype: str) -> None:
    """Rewrites the checkpoint in the folder with plain weights of `dtype`; other tensors stay what they are.

    A file of weights is read, replaced and forgotten before the next one, so memory holds one of them.
    Raises ConfigError where FP8 values have no scales.
    """
    config = read_config(folder / "config.json")
    rows, columns = config.pop("quantization_config")["weight_block_size"]
    files = sorted(folder.glob("*.safetensors"))
    scales = {}  # of all files, for a weight and its scales may stand in two
    for file in files:
        with safe_open(file, "pt") as stored:
            scales |= {name: stored.get_tensor(name) for name in stored.keys() if name.endswith(FP8_SCALES)}  # noqa: SIM118
    size = 0
    for file in files:
        with safe_open(file, "pt") as stored:
            metadata = stored.metadata()
            tensors = {
                name: _plain(name, stored.get_tensor(name), scales, (rows, columns), getattr(torch, dtype))
                for name in stored.keys()  # noqa: SIM118
                if name not in scales
            }
        size += sum(tensor.nbytes for tensor in tensors.values())
        writing = file.with_suffix(".writing")
        save_file(tensors, writing, metadata)
        writing.replace(file)
    if (folder / INDEX).is_file():
        index = read_config(folder / INDEX)
        index["weight_map"] = {name: file for name, file in index["weight_map"].items() if name not in scales}
        index["metadata"] = {**index.get("metadata", {}), "total_size": size}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    config["dtype"] = dtype
    config.pop("torch_dtype", None)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _plain(
    name: str,
    tensor: torch.Tensor,
    scales: Mapping[str, torch.Tensor],
    block: tuple[int, int],
    dtype: torch.dtype,
) -> torch.Tensor:
    if tensor.dtype not in (torch.float8_e4m3fn, torch.float8_e5m2):
        return tensor
    if name + FP8_SCALES not in scales:
        raise ConfigError(
            f"the base's {name} holds FP8 values and has no {name}{FP8_SCALES}. Fetch the checkpoint again."
        )
    return dequantised(tensor, scales[name + FP8_SCALES], *block).to(dtype)
