"""Norms, rotary embeddings and gated units in few passes over memory, for training on a CPU.

Written in elementwise operations, as transformers has them, a norm reads and writes the whole batch about ten times
forward and twenty times backward. What is computed here is the same to rounding, with gradients by hand.
"""

import types

import torch
from torch import nn
from torch.nn.functional import silu

NORMS = ("DeepseekV3RMSNorm", "LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm")
"""Classes that compute x / √(mean x² + ε) · weight."""
GATED = ("DeepseekV3MLP", "LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP")
"""Classes that compute down(activation(gate(x)) · up(x))."""


def use_few_passes(model: nn.Module) -> None:
    """Replace the computation of the modules of `model` that are known here, on a CPU; others are unchanged."""
    for module in model.modules():
        if type(module).__name__ in NORMS:
            module.forward = types.MethodType(_norm_forward, module)
        elif type(module).__name__ in GATED and isinstance(module.act_fn, nn.SiLU):
            module.forward = types.MethodType(_gated_forward, module)


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """x · cos + rotate_half(x) · sin, where cos and sin need no gradient and have equal halves."""
    return _Rotation.apply(x, cos, sin)


def _norm_forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
    if hidden_states.device.type != "cpu" or not hidden_states.dtype == self.weight.dtype == torch.float32:
        return type(self).forward(self, hidden_states)
    return _Norm.apply(hidden_states, self.weight, self.variance_epsilon)


def _gated_forward(self, x: torch.Tensor) -> torch.Tensor:
    if x.device.type != "cpu":
        return type(self).forward(self, x)
    return self.down_proj(_GatedUnit.apply(self.gate_proj(x), self.up_proj(x)))


class _Norm(torch.autograd.Function):
    """x (…, width), weight (width,) → x / √(mean x² + ε) · weight."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        scale = x.square().mean(-1, keepdim=True).add_(epsilon).rsqrt_()  # as transformers rounds it
        normed = x * scale
        ctx.save_for_backward(normed, scale, weight)
        return normed * weight

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        normed, scale, weight = ctx.saved_tensors
        product = grad * normed
        grad_weight = product.flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        if not ctx.needs_input_grad[0]:
            return None, grad_weight, None
        along = torch.matmul(product, weight)[..., None].div_(normed.shape[-1])
        return (grad * weight).addcmul_(normed, along, value=-1).mul_(scale), grad_weight, None


class _GatedUnit(torch.autograd.Function):
    """silu(gate) · up."""

    @staticmethod
    def forward(ctx, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        gate, up = ctx.saved_tensors
        grad_gate = torch.ops.aten.silu_backward(grad * up, gate) if ctx.needs_input_grad[0] else None
        return grad_gate, silu(gate).mul_(grad) if ctx.needs_input_grad[1] else None


class _Rotation(torch.autograd.Function):
    """A rotation in the plane of each pair of numbers; its gradient is the rotation back."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, sin, -1), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, direction: int) -> torch.Tensor:
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-direction)
    out[..., half:].addcmul_(x[..., :half], sin[..., half:], value=direction)
    return out
