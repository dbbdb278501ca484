"""What a profile says over a base's own tokenizer."""

import json
from pathlib import Path

from pydantic import model_validator

from pipeline.core.errors import ConfigError
from pipeline.core.strict import Strict

TEMPLATES = Path(__file__).parents[1] / "models" / "chat_templates"


class TokenizerSettings(Strict):
    """Tokens and template that a base lacks or has wrong for the ladder. null keeps the model's own."""

    eos_token: str | None = None
    """Ends an answer. The model's own end tokens keep ending samples beside it."""
    pad_token: str | None = None
    chat_template: str | None = None
    """A name in pipeline/models/chat_templates (`chatml`, `llama3`), or the path of a Jinja file."""

    @model_validator(mode="after")
    def _something_is_set(self) -> "TokenizerSettings":
        if self.chat_template is not None:
            self.template_file()
        return self

    def template_file(self) -> Path:
        for path in (TEMPLATES / f"{self.chat_template}.jinja", Path(self.chat_template)):
            if path.is_file():
                return path
        known = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.jinja")))
        raise ValueError(f"chat_template '{self.chat_template}' is neither a file nor one of {known}")

    def adjust(self, tokenizer) -> None:
        """Makes the changes in a tokenizer that is loaded.

        Raises ConfigError for a token that the vocabulary does not have: a new row of the embedding would have to be
        learned first.
        """
        for key in ("eos_token", "pad_token"):
            token = getattr(self, key)
            if token is None:
                continue
            if token not in tokenizer.get_vocab():
                special = ", ".join(tokenizer.all_special_tokens[:8])
                raise ConfigError(
                    f"{key} {token!r} is not in the vocabulary of {tokenizer.name_or_path}. Name a token that it has, "
                    f"such as {special}."
                )
            setattr(tokenizer, key, token)
        if self.chat_template is not None:
            tokenizer.chat_template = self.template_file().read_text(encoding="utf-8").strip("\n")

    def apply(self, checkpoint: Path) -> None:
        """Writes the changes into the checkpoint's tokenizer and its generation configuration."""
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        self.adjust(tokenizer)
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
