"""Base models from where they come: `pocket:NAME`, `hub:OWNER/NAME`, `folder:PATH`, `gguf:PATH`."""

import json
import shutil
from pathlib import Path

from data_recipes.pocket.bases import base_folder
from pipeline.errors import ConfigError

SCHEMES = ("pocket", "hub", "folder", "gguf")
WANTED = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")
"""What is taken from a hub repository: no pickled weights, no code."""


def check_base(source: str) -> str | None:
    """None when the model is on this machine; a sentence saying where it would come from when it is not.

    Raises ConfigError for a source that cannot be right.
    """
    scheme, path = _split(source)
    if scheme == "hub":
        from huggingface_hub import try_to_load_from_cache

        cached = isinstance(try_to_load_from_cache(path, "config.json"), str)
        return None if cached else f"{path} is not on this machine and will be fetched from the Hugging Face Hub"
    if scheme == "pocket":
        base_folder(path)
    elif scheme == "folder":
        _check_folder(Path(path))
    elif not Path(path).is_file():
        raise ConfigError(f"gguf:{path}: there is no such file. Give the path of a .gguf file.")
    return None


def fetch_base(source: str, target: Path, dtype: str) -> int:
    """Puts a plain checkpoint of the source into the folder `target` and returns its number of parameters.

    Raises ConfigError for a model that is missing, gated, or lacks what the ladder needs.
    """
    scheme, path = _split(source)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if scheme == "pocket":
        shutil.copytree(base_folder(path), target)
    elif scheme == "folder":
        _check_folder(Path(path))
        shutil.copytree(path, target, ignore=shutil.ignore_patterns("*.bin", "*.pt", "*.pth", "*.py", "optimizer*"))
    elif scheme == "hub":
        _fetch_from_hub(path, target)
    else:
        _convert_gguf(Path(path), target, dtype)
    _check_tokenizer(source, target)
    return count_parameters(target)


def local_folder(source: str) -> Path | None:
    """The folder of a checkpoint that lies on this machine as it is, None for one that is fetched or converted."""
    scheme, path = _split(source)
    if scheme == "pocket":
        return base_folder(path)
    return Path(path) if scheme == "folder" else None


def count_parameters(checkpoint: Path) -> int:
    """Number of stored weights, read from the headers of the safetensors files. A tied head counts once."""
    total = 0
    for file in sorted(checkpoint.glob("*.safetensors")):
        with file.open("rb") as stream:
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        for name, tensor in header.items():
            if name != "__metadata__":
                size = 1
                for extent in tensor["shape"]:
                    size *= extent
                total += size
    return total


def _split(source: str) -> tuple[str, str]:
    scheme, colon, path = source.partition(":")
    if not colon or scheme not in SCHEMES or not path:
        raise ConfigError(
            f"No model source '{source}'. Expected pocket:NAME, hub:OWNER/NAME, folder:PATH or gguf:PATH."
        )
    return scheme, path


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"folder:{folder} is not a checkpoint: it has no config.json.")
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(
            f"folder:{folder} has no .safetensors file. Pickled weights are not loaded: save the model with "
            "save_pretrained, which writes safetensors."
        )


def _fetch_from_hub(name: str, target: Path) -> None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        snapshot = snapshot_download(name, allow_patterns=list(WANTED))
    except GatedRepoError:
        raise ConfigError(
            f"hub:{name} is gated. Ask for access on its page, then log in with `hf auth login` or set HF_TOKEN."
        ) from None
    except RepositoryNotFoundError:
        raise ConfigError(
            f"hub:{name} does not exist, or is private. Check the spelling; for a private one set HF_TOKEN."
        ) from None
    except (LocalEntryNotFoundError, OSError) as error:
        raise ConfigError(
            f"hub:{name} could not be fetched: {error}. Check the network, or give folder:PATH of a local copy."
        ) from None
    shutil.copytree(snapshot, target)


def _convert_gguf(file: Path, target: Path, dtype: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    if not file.is_file():
        raise ConfigError(f"gguf:{file}: there is no such file. Give the path of a .gguf file.")
    options = {"gguf_file": file.name, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(
        file.parent, quantization_config=GgufConfig(dequantize=True), dtype=getattr(torch, dtype), **options
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(file.parent, **options).save_pretrained(target)


def _check_tokenizer(source: str, folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name, token in (("end-of-sequence", tokenizer.eos_token), ("padding", tokenizer.pad_token)):
        if token is None:
            raise ConfigError(
                f"The tokenizer of {source} has no {name} token. Set `{'eos' if name[0] == 'e' else 'pad'}_token` in "
                "its tokenizer_config.json (many models pad with their end-of-sequence token's unused neighbour)."
            )
    declared = _declared_end_ids(folder)
    if declared and tokenizer.eos_token_id not in declared:
        raise ConfigError(
            f"The tokenizer of {source} ends with {tokenizer.eos_token!r} (id {tokenizer.eos_token_id}), but the model "
            f"has the end-of-sequence ids {sorted(declared)}. Set `eos_token` in its tokenizer_config.json to match."
        )
    if tokenizer.eos_token_id == tokenizer.pad_token_id:
        raise ConfigError(
            f"The tokenizer of {source} pads with its end-of-sequence token ({tokenizer.eos_token!r}), so the end of "
            "an answer could not be told from padding. Give it another `pad_token` in its tokenizer_config.json."
        )
    vocabulary = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("vocab_size")
    if vocabulary is not None and tokenizer.pad_token_id >= vocabulary:
        raise ConfigError(
            f"The tokenizer of {source} has the padding token {tokenizer.pad_token!r} (id {tokenizer.pad_token_id}), "
            f"but the model has only {vocabulary} tokens. Set `pad_token` in its tokenizer_config.json to one of them."
        )
    if not tokenizer.chat_template:
        raise ConfigError(
            f"The tokenizer of {source} has no chat template, which every stage after R1-Zero needs. "
            "Set `chat_template` in its tokenizer_config.json."
        )


def _declared_end_ids(folder: Path) -> set[int]:
    """The end-of-sequence ids of the model's configuration and of its generation configuration."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        if (folder / name).is_file():
            ids = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            found.update([ids] if isinstance(ids, int) else ids or [])
    return found
