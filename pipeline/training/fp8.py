"""Training and rollouts in block-wise FP8, emulated (`pipeline.core.fp8`).

As in the DeepSeek-V3 report (arXiv 2412.19437, 3.3) the three matrix products of a linear layer take FP8 operands and
add up in float32, master weights and gradients stay float32, and embeddings, the output head, norms, routers and
attention itself keep their precision. Emulation shows what the format does to a model; it makes nothing faster.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from pipeline.core.errors import ConfigError
from pipeline.core.fp8 import BLOCK, rounded
from pipeline.core.shards import is_sharded


class FP8Linear(nn.Linear):
    """Computes as nn.Linear does, on rounded operands; weights, names and gradients are those of nn.Linear."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        y = _Product.apply(flat, self.weight).view(*x.shape[:-1], -1)
        return y if self.bias is None else y + self.bias.to(y.dtype)


class _Product(torch.autograd.Function):
    """x (tokens, in), weight (out, in) -> x · weightᵀ (tokens, out), and both gradients from FP8 operands."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        seen, weights = rounded(x, 1, BLOCK), rounded(weight)
        ctx.save_for_backward(seen, weights)
        ctx.dtypes = x.dtype, weight.dtype
        with torch.autocast(x.device.type, enabled=False):
            return (seen @ weights.T).to(x.dtype)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        seen, weights = ctx.saved_tensors
        of_x, of_weight = ctx.dtypes
        grad_x = grad_weight = None
        with torch.autocast(grad.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                grad_x = (rounded(grad, 1, BLOCK) @ weights).to(of_x)
            if ctx.needs_input_grad[1]:  # summed over tokens, so blocks lie along them; what was kept is rounded again
                grad_weight = (rounded(grad, BLOCK, 1).T @ rounded(seen, BLOCK, 1)).to(of_weight)
        return grad_x, grad_weight


def train_in_fp8(model: nn.Module) -> None:
    """Lets the linear layers inside the decoder layers of `model` compute as `FP8Linear`.

    Raises ConfigError where the model has none.
    """
    for layer in _linear_layers(model):
        layer.__class__ = FP8Linear


@contextlib.contextmanager
def weights_in_fp8(model: nn.Module) -> Iterator[None]:
    """The weights of the linear layers inside the decoder layers are rounded to FP8 meanwhile, and put back by copy.

    Raises ConfigError for a model in shards, in which blocks are cut in two.
    """
    if is_sharded(model):
        raise ConfigError("fp8_rollouts rounds whole weights, and these are in shards. Set parallel.shard: none.")
    kept = {}
    with torch.no_grad():
        for layer in _linear_layers(model):
            kept[layer] = layer.weight.detach().clone()
            layer.weight.copy_(rounded(layer.weight))
    try:
        yield
    finally:
        with torch.no_grad():
            for layer, weight in kept.items():
                layer.weight.copy_(weight)


def _linear_layers(model: nn.Module) -> list[nn.Linear]:
    """Those of the decoder layers: not the head, which is outside of them, nor routers, whose classes are others."""
    layers = getattr(model.get_decoder(), "layers", ())
    found = [module for layer in layers for module in layer.modules() if type(module) in (nn.Linear, FP8Linear)]
    if not found:
        raise ConfigError(f"fp8: {type(model).__name__} has no linear layers in decoder layers. Switch fp8 off.")
    return found
