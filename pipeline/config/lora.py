"""Settings of adapters: LoRA (arXiv 2106.09685) and QLoRA (arXiv 2305.14314)."""

import importlib.util
from typing import Any, ClassVar, Literal

from pydantic import Field, ValidationError, model_validator

from pipeline.core.strict import Strict, lay_over, sections_in

HEAD_AND_EMBEDDINGS = ("lm_head", "embed_tokens")


class LoRASettings(Strict):
    rank: int = Field(32, ge=1)
    alpha: float = Field(64, gt=0)
    """The adapters' product is scaled by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Of the adapters' inputs. RL needs 0: the sampler uses none, and its probabilities would not be the trainer's."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Modules that get adapters: every linear layer but the head, or those whose names end so, such as `q_proj`."""
    quantize: Literal["none", "nf4"] = "none"
    """`nf4` holds the frozen base in 4 bits (QLoRA; needs bitsandbytes). The merged checkpoint is the base as
    quantised plus the adapters: the weights that were trained with."""

    @model_validator(mode="after")
    def _modules_are_named(self) -> "LoRASettings":
        if not self.target_modules:
            raise ValueError("target_modules is empty, so nothing would be trained; name modules or all-linear")
        # Heads are often tied to the embeddings, and of a 4-bit base they are not quantised: merging goes wrong there.
        named = [] if self.target_modules == "all-linear" else self.target_modules
        unfit = [name for name in named if name.rpartition(".")[2] in HEAD_AND_EMBEDDINGS]
        if unfit:
            raise ValueError(
                f"target_modules names {', '.join(unfit)}, and adapters go on every linear layer but the head; "
                "leave it out, or set all-linear"
            )
        return self

    def lacks(self) -> str | None:
        """What this machine lacks for these settings, with the command that brings it; None where nothing."""
        if self.quantize == "none" or importlib.util.find_spec("bitsandbytes"):
            return None
        return (
            f"lora.quantize is {self.quantize}, which needs the package bitsandbytes, and it is not installed. "
            "Run `make setup EXTRAS=quantize`, or set quantize: none"
        )

    def parameters(self, shapes: list[tuple[int, int]]) -> int:
        """Trained weights for linear layers of (inputs, outputs) `shapes`."""
        return sum(self.rank * (inputs + outputs) for inputs, outputs in shapes)


class TakesAdapters(Strict):
    """A section that has a `lora` of its own, for the weights that it trains."""

    ADAPTERS: ClassVar[dict[str, Any]] = {}
    """What adapters that are set for the whole profile are changed to here."""


def with_adapters(section: Any, kind: type[Strict], lora: dict[str, Any]) -> Any:
    """A section as a profile writes it, with `lora` in every part of it that takes adapters, below what it says there.

    Left as it is: what says `lora: null`, what is wrong, and a required section that is missing, so that errors name
    what the profile says.
    """
    if not isinstance(section, dict) or not _is_valid(lora):
        return section
    filled = dict(section)
    if issubclass(kind, TakesAdapters):
        own = section.get("lora", {})
        filled["lora"] = lay_over(lora | kind.ADAPTERS, own) if isinstance(own, dict) else own
    for name, field in kind.model_fields.items():
        for part in sections_in(field.annotation):
            is_there = name in section or isinstance(field.get_default(call_default_factory=True), Strict)
            if _holds_adapters(part) and is_there:
                filled[name] = with_adapters(filled.get(name, {}), part, lora)
    return filled


def _holds_adapters(kind: type[Strict]) -> bool:
    if issubclass(kind, TakesAdapters):
        return True
    return any(_holds_adapters(part) for field in kind.model_fields.values() for part in sections_in(field.annotation))


def _is_valid(lora: dict[str, Any]) -> bool:
    try:
        LoRASettings.model_validate(lora)
    except ValidationError:  # the profile's own `lora` is checked, and named, beside this
        return False
    return True
