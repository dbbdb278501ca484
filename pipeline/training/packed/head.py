"""The language model head on a CPU: log-probabilities and entropies without the (S, vocabulary) logits in memory.

TRL's `ChunkedLogProbFunction` does the same with Triton on a GPU. Without Triton it makes a dozen fresh tensors of a
whole tile, and on a CPU freshly allocated memory costs several times the computation in it. Here
every elementwise pass goes over one buffer that fits the cache, and matrix products run in the arithmetic's type.
"""

import torch

BLOCK_ROWS = 1024
"""Scored positions a matrix product. The weight's gradient is rounded to the arithmetic's type once a block, as that of
every other linear layer is once a micro-batch."""
BLOCK_BYTES = 256 << 20
"""Bounds the logits of a block where the vocabulary is large."""
TILE = 1 << 20
"""Logits an elementwise pass: 4 MiB of float32."""


class HeadLogProbs(torch.autograd.Function):
    """log softmax(hidden @ weightᵀ + bias, divided by the temperature) at the labels, and the entropy of each position.

    hidden (S, width), weight (vocabulary, width), bias (vocabulary,) or None, labels (S,) → log-probabilities (S,) and
    entropies (S,), float32. Entropies, None with `entropy=False`, are for the record: they carry no gradient.
    """

    @staticmethod
    def forward(ctx, hidden, weight, bias, labels, temperature: float, entropy: bool):
        autocast = torch.is_autocast_enabled(hidden.device.type)
        dtype = torch.get_autocast_dtype(hidden.device.type) if autocast else hidden.dtype
        log_z = torch.empty(len(labels), dtype=torch.float32, device=hidden.device)
        log_probs = torch.empty_like(log_z)
        entropies = torch.empty_like(log_z) if entropy else None
        tiles = _Tiles(len(weight), hidden.device, 2 if entropy else 1)
        for rows, _, logits in _blocks(hidden.to(dtype), weight.to(dtype), bias):
            for part, z, *spare in tiles.over(logits, temperature):
                at = slice(rows.start + part.start, rows.start + part.stop)
                chosen = z.gather(-1, labels[at, None])
                top = z.amax(-1, keepdim=True)
                z.sub_(top)
                shifted = spare[0].copy_(z) if entropy else None
                total = z.exp_().sum(-1)
                log_total = total.log()
                torch.add(top[:, 0], log_total, out=log_z[at])
                torch.sub(chosen[:, 0], log_z[at], out=log_probs[at])
                if entropy:
                    torch.sub(log_total, shifted.mul_(z).sum(-1).div_(total), out=entropies[at])
        ctx.save_for_backward(hidden, weight, bias, labels, log_z)
        ctx.dtype, ctx.temperature = dtype, temperature
        if entropy:
            ctx.mark_non_differentiable(entropies)
        return log_probs, entropies

    @staticmethod
    def backward(ctx, grad, _):
        hidden, weight, bias, labels, log_z = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        cast = weight.to(ctx.dtype)
        scaled = grad.float() / ctx.temperature
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros(weight.shape, dtype=torch.float32, device=weight.device) if wants_weight else None
        grad_bias = torch.zeros(bias.shape, dtype=torch.float32, device=bias.device) if wants_bias else None
        tiles = _Tiles(len(weight), hidden.device, 1)
        for rows, block, logits in _blocks(hidden.to(ctx.dtype), cast, bias):
            for part, z in tiles.over(logits, ctx.temperature):
                at = slice(rows.start + part.start, rows.start + part.stop)
                z.sub_(log_z[at, None]).exp_().mul_(-scaled[at, None])
                z.scatter_add_(-1, labels[at, None], scaled[at, None])  # d log p / d logit = 1[label] - p
                logits[part].copy_(z)
            if wants_hidden:
                grad_hidden[rows] = logits @ cast
            if wants_weight:
                grad_weight += logits.t() @ block
            if wants_bias:
                grad_bias += logits.sum(0, dtype=torch.float32)
        return (
            grad_hidden,
            None if grad_weight is None else grad_weight.to(weight.dtype),
            None if grad_bias is None else grad_bias.to(bias.dtype),
            None, None, None,
        )  # fmt: skip


def _blocks(hidden, weight, bias):
    """(rows, their hidden states, their logits) block by block; each block reuses the memory of the logits."""
    size = max(1, min(BLOCK_ROWS, len(hidden), BLOCK_BYTES // (len(weight) * weight.element_size())))
    buffer = hidden.new_empty((size, len(weight)))
    for start in range(0, len(hidden), size):
        block = hidden[start : start + size]
        logits = torch.mm(block, weight.t(), out=buffer[: len(block)])
        if bias is not None:
            logits += bias.to(logits.dtype)
        yield slice(start, start + len(block)), block, logits


class _Tiles:
    """A few rows of logits at a time, in float32 buffers that are reused."""

    def __init__(self, vocabulary: int, device: torch.device, buffers: int):
        self._rows = max(1, TILE // vocabulary)
        self._buffers = [torch.empty(self._rows, vocabulary, device=device) for _ in range(buffers)]

    def over(self, logits, temperature: float):
        """(rows, their logits over the temperature, spare buffers of that shape …)."""
        for start in range(0, len(logits), self._rows):
            part = slice(start, min(start + self._rows, len(logits)))
            views = [buffer[: part.stop - start] for buffer in self._buffers]
            views[0].copy_(logits[part])
            if temperature != 1.0:
                views[0].div_(temperature)
            yield part, *views
