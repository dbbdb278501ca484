"""Loads a causal language model with all that its checkpoint holds: multi-token prediction modules too, which
transformers' own classes drop (`pipeline.core.multi_token`), and which train or stay. Importing this loads no torch."""

import json
import re
from pathlib import Path
from typing import Any

from pipeline.core.generation import settle_generation
from pipeline.core.stored import stored_tensors

PROJECTION = "eh_proj"
"""What a multi-token prediction module has and no other part of a model."""
_PROJECTION = re.compile(rf"model\.layers\.(\d+)\.{PROJECTION}\.weight")


def load_causal_lm(checkpoint: str | Path, **options: Any) -> Any:
    """transformers' `AutoModelForCausalLM.from_pretrained`, multi-token prediction modules included; it can be saved
    again at any time, whatever its generation configuration says."""
    from transformers import AutoModelForCausalLM

    modules = held_modules(Path(checkpoint))
    if modules:
        from pipeline.core.multi_token import DeepseekV3ForCausalLM  # loads torch

        model = DeepseekV3ForCausalLM.from_pretrained(checkpoint, num_mtp_layers=modules, **options)
    else:
        model = AutoModelForCausalLM.from_pretrained(checkpoint, **options)
    settle_generation(model)
    return model


def held_modules(checkpoint: Path) -> int:
    """How many multi-token prediction modules the files of a checkpoint hold, whatever its configuration says."""
    file = checkpoint / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if config.get("model_type") != "deepseek_v3":
        return 0
    layers = [int(match[1]) for name in stored_tensors(checkpoint) if (match := _PROJECTION.fullmatch(name))]
    return sum(layer >= config["num_hidden_layers"] for layer in layers)


def multi_token_modules(model: Any) -> list[Any]:
    """The multi-token prediction modules of a model, adapters around it or not."""
    return [module for module in model.modules() if hasattr(module, PROJECTION)]


def settle_multi_token(model: Any, weight: float) -> None:
    """Lets the first module train where its loss has a `weight`, and freezes those that no loss reaches.

    Raises ValueError where there is a weight and no module.
    """
    modules = multi_token_modules(model)
    if weight and not modules:
        raise ValueError(
            f"mtp_weight is {weight:g}, but the checkpoint of this {type(model).__name__} has no multi-token "
            f"prediction module (weights such as model.layers.N.{PROJECTION}.weight); set mtp_weight: 0, or take a "
            "base with one"
        )
    for depth, module in enumerate(modules):
        if not weight or depth:
            module.requires_grad_(False)
