"""Changes that a profile makes in a base's own tokenizer."""

import json
from pathlib import Path

from pipeline.config.tokenizer import TokenizerSettings
from pipeline.core.errors import ConfigError
from pipeline.core.tokens import load_tokenizer


def adjust_tokenizer(tokenizer, settings: TokenizerSettings) -> None:
    """Makes the changes in a tokenizer that is loaded.

    Raises ConfigError for a token that the vocabulary does not have: a new row of the embedding would have to be
    learned first.
    """
    for key in ("eos_token", "pad_token"):
        token = getattr(settings, key)
        if token is None:
            continue
        if token not in tokenizer.get_vocab():
            special = ", ".join(tokenizer.all_special_tokens[:8])
            raise ConfigError(
                f"{key} {token!r} is not in the vocabulary of {tokenizer.name_or_path}. Name a token that it has, "
                f"such as {special}."
            )
        setattr(tokenizer, key, token)
    if settings.chat_template is not None:
        tokenizer.chat_template = settings.template_file().read_text(encoding="utf-8").strip("\n")


def adjust_checkpoint(checkpoint: Path, settings: TokenizerSettings) -> None:
    """Writes the changes into the checkpoint's tokenizer and its generation configuration."""
    tokenizer = load_tokenizer(checkpoint)
    adjust_tokenizer(tokenizer, settings)
    tokenizer.save_pretrained(checkpoint)
    _note_end(checkpoint, tokenizer.eos_token_id)


def _note_end(checkpoint: Path, end: int | None) -> None:
    """Puts the end token first among those of generation_config.json, which samplers stop at."""
    path = checkpoint / "generation_config.json"
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    model = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    declared = config.get("eos_token_id", model.get("eos_token_id"))
    others = [declared] if isinstance(declared, int) else declared or []
    ids = [end, *(other for other in others if other != end)]
    config["eos_token_id"] = ids[0] if len(ids) == 1 else ids
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
