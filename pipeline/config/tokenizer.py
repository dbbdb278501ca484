"""What a profile says over a base's own tokenizer."""

from pathlib import Path

from pydantic import Field, model_validator

from pipeline.core.strict import Strict

TEMPLATES = Path(__file__).parents[1] / "models" / "chat_templates"


class TokenizerSettings(Strict):
    """Tokens and template that a base lacks or has wrong for the ladder. null keeps the model's own."""

    eos_token: str | None = None
    """Ends an answer. The model's own end tokens keep ending samples beside it."""
    pad_token: str | None = None
    add_tokens: list[str] = Field(default_factory=list)
    """Tokens that the vocabulary lacks: the embedding (and a head of its own) gets a row for each, the mean of the
    others. `<think>` and `</think>` as tokens of their own are what vLLM's reasoning parser asks for."""
    chat_template: str | None = None
    """A name in pipeline/models/chat_templates (`chatml`, `llama3`), or the path of a Jinja file."""

    @model_validator(mode="after")
    def _something_is_set(self) -> "TokenizerSettings":
        if self.chat_template is not None:
            self.template_file()
        return self

    def own_files(self) -> dict[str, Path]:
        if self.chat_template is None or (file := self.template_file()).parent == TEMPLATES:
            return {}
        return {self.chat_template: file}

    def template_file(self) -> Path:
        for path in (TEMPLATES / f"{self.chat_template}.jinja", Path(self.chat_template)):
            if path.is_file():
                return path
        known = ", ".join(sorted(path.stem for path in TEMPLATES.glob("*.jinja")))
        raise ValueError(f"chat_template '{self.chat_template}' is neither a file nor one of {known}")
