"""What vLLM does not do by itself, in this process or in a server's: size its cache, read between the lines of a
configuration, step around a kernel that is wrong, and pack new weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig

from pipeline.core.cache_size import cached_numbers, latent_numbers
from pipeline.core.heads import has_own_head

LATENT_OFF = "VLLM_MLA_DISABLE"
"""The environment variable that has vLLM cache each head's keys and values, and not the latents of latent attention."""


def token_bytes(model: str, dtype: str, latent: bool = True) -> int | None:
    """Bytes of a token in the cache; None where the configuration does not say how many heads hold keys and values.
    Of latent attention it holds latents, unless `latent` is false."""
    numbers = cached_numbers(_config(model), latent)
    return None if numbers is None else numbers * getattr(torch, dtype).itemsize


def kernels_left_out(model: str) -> list[str]:
    """vLLM's `custom_ops` for the model on a CPU.

    Its rotary kernel there turns queries of three dimensions wrongly (0.31 and 0.32), which latent attention hands it:
    log-probabilities are then off by up to 0.2. What is written in torch takes its place.
    """
    return ["-rotary_embedding"] if latent_numbers(_config(model)) else []


def unsaid(model: str) -> dict[str, Any]:
    """Entries of the configuration that vLLM goes by and that the checkpoint has otherwise, or only implies."""
    config = _config(model)
    overrides: dict[str, Any] = {"tie_word_embeddings": False} if has_own_head(Path(model)) else {}
    if config.model_type == "deepseek_v3":  # transformers' own class has no other routing, and so does not write it
        routing = {"topk_method": "noaux_tc", "scoring_func": "sigmoid"}
        overrides |= {key: value for key, value in routing.items() if not hasattr(config, key)}
    return overrides


def _config(model: str):
    return AutoConfig.from_pretrained(model).get_text_config()


def repack_cpu_weights(model: torch.nn.Module) -> None:
    """Pack again what vLLM's CPU backend packs when it loads `model`, and leaves stale under new weights (vLLM 0.32).

    A tied head shares the embedding's parameter but multiplies by a packed copy of it, and mixture-of-experts layers
    keep packed experts.
    """
    head = getattr(model, "lm_head", None)
    if head is not None and hasattr(head, "cpu_linear"):
        head.quant_method.process_weights_after_loading(head)
    for module in model.modules():
        kernel = getattr(getattr(module, "quant_method", None), "moe_kernel", None)
        if hasattr(module, "w13_weight") and kernel is not None:
            kernel.fused_experts.process_weights_after_loading(module)
