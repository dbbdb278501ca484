"""Floating point operations that an update needs, and the machine's own peak, for model FLOP utilisation (MFU).

Counted as in PaLM (arXiv 2204.02311, appendix B): two operations a weight and token forward, four backward; attention
over the real contexts; nothing for recomputation, padding or elementwise work.
"""

import time
from collections.abc import Iterable

import torch

from pipeline.core.causal_lm import multi_token_modules

PEAK_SHAPES = ((2048, 576, 1536), (2048, 1536, 576), (1536, 1536, 1536))
CUDA_SHAPES = ((8192, 8192, 8192),)
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


class ModelFlops:
    """Operations of one model, by its parameters; with experts, those of a token's own experts."""

    def __init__(self, model: torch.nn.Module):
        config = model.config.get_text_config()
        self.attention = 2 * config.num_hidden_layers * _attention_numbers(config)
        """Forward operations for each pair of a token and one that it attends to: scores and weighted sum."""
        used = next((getattr(config, "num_experts_per_tok", n) / n for n in _counts(config)), 1.0)
        ahead = [weight for module in multi_token_modules(model) for weight in module.parameters()]
        idle = {id(weight) for weight in ahead if not weight.requires_grad}  # no pass goes through them
        embeddings = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
        self.head = 2 * model.get_output_embeddings().weight.numel()
        self.body = 2 * sum(
            parameter.numel() * (used if ".experts." in name else 1.0)
            for name, parameter in model.named_parameters()
            if parameter.ndim > 1 and id(parameter) not in embeddings | idle
        )

    def forward(self, tokens: int, scored: int, pairs: float) -> float:
        """Operations of a forward pass over `tokens`, the head on `scored` of them, `pairs` in attention."""
        return self.body * tokens + self.head * scored + self.attention * pairs


def _attention_numbers(config) -> int:
    """Sizes of the query and the value of each head, added up. Those of latent attention differ from each other."""
    heads = getattr(config, "num_attention_heads", 0)
    if getattr(config, "kv_lora_rank", None):
        return heads * (config.qk_nope_head_dim + config.qk_rope_head_dim + config.v_head_dim)
    return 2 * heads * (getattr(config, "head_dim", None) or config.hidden_size // max(1, heads))


def _counts(config) -> Iterable[int]:
    return (getattr(config, name) for name in EXPERTS if getattr(config, name, None))


def attended_pairs(prompt: int, completion: int) -> float:
    """Pairs of a token and one that it attends to, over a completion behind a prompt that is counted elsewhere."""
    return completion * (prompt + completion / 2)


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = 0.6) -> float:
    """FLOP/s of matrix products on `device` in `dtype`: the fastest of all that fit into `seconds`, of a few shapes."""
    best = 0.0
    shapes = CUDA_SHAPES if device.type == "cuda" else PEAK_SHAPES
    for n, k, m in shapes:
        a, b = torch.ones(n, k, device=device, dtype=dtype), torch.ones(k, m, device=device, dtype=dtype)
        began = time.perf_counter()
        while time.perf_counter() - began < seconds / len(shapes):
            started = time.perf_counter()
            a @ b
            _wait(device)
            best = max(best, 2 * n * k * m / (time.perf_counter() - started))
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
