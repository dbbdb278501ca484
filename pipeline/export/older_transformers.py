"""Makes an exported folder one that transformers 4 loads as the same model.

transformers 5 writes rotary settings, the dtype and the kind of tokenizer under names that version 4 does not know: it
would compute with a rotary base of 10,000, or not find the tokenizer's class. The old names are written beside the new.
"""

import json
from pathlib import Path

OLDEST = "4.51"
"""The first version with Qwen3, that is with all that models here are made of."""
FAST = "PreTrainedTokenizerFast"


def write_old_names(folder: Path) -> None:
    """Adds to config.json and tokenizer_config.json what version 4 reads; nothing that version 5 reads is changed."""
    _change(folder / "config.json", _old_model_names)
    _change(folder / "tokenizer_config.json", _old_tokenizer_names)


def lacks(folder: Path) -> str | None:
    """Why transformers 4 could not load the folder as the same model, None where it could."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or {}
    if any(isinstance(value, dict) for value in rope.values()):
        return f"its {config.get('model_type')} has rotary settings by kind of layer, which version 4 has no names for"
    from transformers import AutoTokenizer

    kind = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("tokenizer_class", FAST)
    if kind == FAST and not (folder / "tokenizer.json").is_file():
        return f"{type(AutoTokenizer.from_pretrained(folder)).__name__} has no tokenizer.json"
    return None


def needed_version(folder: Path) -> str | None:
    """The oldest transformers that loads the folder as the same model; None where it holds no such checkpoint."""
    file = folder / "config.json"
    if not file.is_file():
        return None
    config = json.loads(file.read_text(encoding="utf-8"))
    if "rope_parameters" not in config or "rope_theta" in config:
        return OLDEST
    return str(config.get("transformers_version", "5.0.0"))


def _old_model_names(config: dict) -> dict:
    rope = dict(config.get("rope_parameters") or {})
    if "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        scaled = rope.get("rope_type", "default") != "default"
        config["rope_scaling"] = rope if scaled else None
    if "dtype" in config:
        config["torch_dtype"] = config["dtype"]
    return config


def _old_tokenizer_names(config: dict) -> dict:
    if config.get("tokenizer_class") in ("TokenizersBackend", None):
        config["tokenizer_class"] = FAST
    extra = config.pop("extra_special_tokens", None)
    if isinstance(extra, dict):
        config["extra_special_tokens"] = extra
    elif extra:
        config["additional_special_tokens"] = extra
    config.pop("backend", None)
    return config


def _change(file: Path, change) -> None:
    if file.is_file():
        told = change(json.loads(file.read_text(encoding="utf-8")))
        file.write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
