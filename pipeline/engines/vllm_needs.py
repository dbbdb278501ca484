"""What vLLM does not do by itself, in this process or in a server's: size its cache, and pack new weights."""

import torch
from transformers import AutoConfig


def token_bytes(model: str, dtype: str) -> int | None:
    """Bytes of a token's keys and values; None where the configuration does not say how many heads hold them."""
    config = AutoConfig.from_pretrained(model).get_text_config()
    heads = getattr(config, "num_key_value_heads", None)
    if heads is None:
        return None
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * size * getattr(torch, dtype).itemsize


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
