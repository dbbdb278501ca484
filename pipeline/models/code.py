"""Models that bring code of their own: it is never run, and what would ask for it does not get into a run."""

import json
from pathlib import Path

from pipeline.core.errors import ConfigError

ASKING = ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json")
KEY = "auto_map"
"""Where transformers looks for the code of a model or a tokenizer."""


def drop_code(source: str, checkpoint: Path) -> None:
    """Takes every mention of code out of a checkpoint that was just fetched, so that no later loader asks for it.

    Raises ConfigError for a model that transformers does not know without its code.
    """
    for path in (checkpoint / name for name in ASKING):
        if not path.is_file():
            continue
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop(KEY, None) is None:
            continue
        if path.name == "config.json":
            check_known(source, config.get("model_type"))
        path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def check_known(source: str, model_type: str | None) -> None:
    """Raises ConfigError for a type of model that transformers knows only with the code that comes with the model."""
    from transformers import CONFIG_MAPPING

    if model_type not in CONFIG_MAPPING:
        raise ConfigError(
            f"{source} is of the type '{model_type}', which needs code that comes with the model. Such code is never "
            "run here. Give a model of an architecture that transformers has, such as Qwen2, Qwen3 or Llama."
        )
