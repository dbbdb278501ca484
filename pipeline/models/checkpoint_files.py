"""What the files of a checkpoint must hold so that it can be trained, and how many weights they store."""

import json
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.models.code import check_known
from pipeline.models.config_file import FP8_SCALES, is_block_fp8, read_config


def count_parameters(checkpoint: Path) -> int:
    """Number of stored weights, read from the headers of the safetensors files. A tied head counts once.

    Raises ConfigError for a file that is no safetensors file.
    """
    total = 0
    for file in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in _weights_header(file).items():
            if name != "__metadata__" and not name.endswith(FP8_SCALES):
                size = 1
                for extent in tensor["shape"]:
                    size *= extent
                total += size
    return total


def _weights_header(file: Path) -> dict:
    """What a safetensors file says of its tensors: 8 bytes of length, then JSON."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if start == b"version ":
            raise ConfigError(f"{file} is a git-lfs pointer, not the weights. Fetch them with `git lfs pull`.")
        length = int.from_bytes(start, "little")
        header = stream.read(length) if len(start) == 8 and length <= size - 8 else b""
    try:
        found = json.loads(header)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ConfigError(
            f"{file} ({size} bytes) is no safetensors file, or is cut short. Copy it again, or save the model again."
        )
    return found


def check_folder(folder: Path, source: str) -> None:
    """Raises ConfigError where the folder, which came from `source`, is no whole checkpoint that can be trained."""
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{source} is not a checkpoint: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        name = source.removeprefix("folder:") if source.startswith("folder:") else "PATH"
        raise ConfigError(
            f"{source} has no .safetensors file. Pickled weights are not loaded unless asked for by name: save the "
            f"model with save_pretrained, which writes safetensors, or name it as pickled:{name}."
        )
    for file in folder.glob("*.safetensors"):
        _weights_header(file)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = read_config(index).get("weight_map")
        if not isinstance(shards, dict):
            raise ConfigError(f"{index} has no weight_map. Save the model again, or fetch the file anew.")
        if lacking := sorted({str(name) for name in shards.values() if not (folder / str(name)).is_file()}):
            raise ConfigError(
                f"{index} names {', '.join(lacking)}, which the folder does not have. Copy the missing files there."
            )
    _check_model_kind(folder / "config.json")


def _check_model_kind(file: Path) -> None:
    """Raises ConfigError for a config.json of anything but a language model in plain weights."""
    config = read_config(file)
    if (generation := file.with_name("generation_config.json")).is_file():
        read_config(generation)
    if "quantization_config" in config and not is_block_fp8(config):
        raise ConfigError(
            f"{file} has a quantization_config, so its weights are quantised and cannot be trained. Name the model's "
            "unquantised checkpoint, or one in block-wise FP8; `lora: {quantize: nf4}` in a stage quantises a frozen "
            "base while it trains."
        )
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    if "auto_map" in config:
        check_known(str(file), kind)
    if kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"{file} has the model_type {kind!r}, which this version of transformers does not know. Name "
            "a model of a type that it knows, such as qwen2 or llama."
        )
    made_of = config.get("architectures") or []
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if causal is None or "vision_config" in config or (made_of and causal not in made_of):
        raise ConfigError(
            f"{file} is of {', '.join(map(str, made_of)) or kind}, where a causal language model of text was expected. "
            "Name the text model's own checkpoint."
        )
    if kind in ("llama", "qwen2", "qwen3", "mistral"):
        needed = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
        if lacking := [key for key in needed if not isinstance(config.get(key), int)]:
            raise ConfigError(f"{file} lacks {', '.join(lacking)}. Take config.json from the model's own repository.")


def check_pickled(folder: Path) -> None:
    if not (folder / "config.json").is_file() or not any(folder.glob("pytorch_model*.bin")):
        raise ConfigError(f"pickled:{folder} is not a pickled checkpoint: it lacks config.json or pytorch_model.bin.")
    _check_model_kind(folder / "config.json")
