"""The packed forward pass: a causal language model over a `PackedBatch`, giving log-probabilities and entropies.

`attach_packed_forward(model)` lets any transformers model whose attention goes through `AttentionInterface` (Llama,
Qwen2, Qwen3, Mistral, SmolLM, …) be called as `model(packed=batch)`. Other calls are unchanged.
Attention with a sliding window, sinks or softcapping is refused, not approximated.
"""

import functools
import types

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from trl.kernels import ChunkedLogProbFunction

from pipeline.core.packable import not_packed
from pipeline.training.packed.few_passes import rotated, use_few_passes
from pipeline.training.packed.head import HeadLogProbs
from pipeline.training.packed.packing import PackedBatch

NAME = "packed_sdpa"
VOCABULARY_CHUNK = 32_768
"""Columns of the language model head computed at once."""
FEW_PASSES = ("LlamaAttention", "MistralAttention", "Qwen2Attention", "Qwen3Attention")
"""Classes of attention layers that are computed here, starting from their hidden states."""
UNSUPPORTED = ("sliding_window", "softcap", "s_aux", "position_bias")
"""Arguments of attention functions that change the result and that the packed form does not compute."""


class UnsupportedModelError(ValueError):
    """The model computes something that the packed forward pass does not."""


def attach_packed_forward(model: torch.nn.Module, temperature: float) -> None:
    """Let `model(packed=PackedBatch)` return `(log_probs, entropies)`, each (S,), of the scored positions.

    With `entropy=False` the second is None, and costs nothing. Logits are divided by `temperature`. The (S, vocabulary)
    logits exist only a tile at a time. With `ahead` a third comes: log-probabilities, (D,), that the multi-token
    prediction module gives the tokens of `PackedBatch.further`; with `detached` only the module gets their gradient.

    Raises:
        UnsupportedModelError: the model scales its logits or uses another attention than softmax over all keys.
    """
    _prepare(model)
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(
        self,
        *args,
        packed: PackedBatch | None = None,
        entropy: bool = True,
        ahead: bool = False,
        detached: bool = False,
        **kwargs,
    ):
        if packed is None:
            return original(*args, **kwargs)
        hidden = _last_hidden(self, packed)
        head = self.get_output_embeddings()
        scored = _log_probs(
            hidden[0, packed.first_scored :], head.weight, head.bias, packed.labels, temperature, entropy
        )
        if not ahead:
            return scored
        further = self.ahead(
            hidden, packed.next_ids, packed.position_ids, _no_mask(packed), detached, packed_batch=packed
        )
        places, labels = packed.further()
        further = further[0, packed.first_scored + places]
        weight = head.weight.detach() if detached else head.weight
        return *scored, _log_probs(further, weight, head.bias, labels, temperature, False)[0]

    model.forward = types.MethodType(forward, model)


def attach_packed_scores(model: torch.nn.Module) -> None:
    """Let a sequence-classification `model(packed=PackedBatch)` of one label return the score, (S,), at each of the
    scored positions.

    Raises:
        UnsupportedModelError: the model uses another attention than softmax over all keys.
    """
    _prepare(model)
    original = model.forward

    @functools.wraps(type(model).forward)
    def forward(self, *args, packed: PackedBatch | None = None, **kwargs):
        if packed is None:
            return original(*args, **kwargs)
        return self.score(_last_hidden(self, packed)[0, packed.first_scored :])[:, 0]

    model.forward = types.MethodType(forward, model)


def _prepare(model: torch.nn.Module) -> None:
    if other := not_packed(model.config):
        raise UnsupportedModelError(
            f"{type(model).__name__} has {', '.join(other)}, which packed training does not compute; "
            "set speedups.packing and speedups.share_prompts to false"
        )
    model.set_attn_implementation(NAME)
    use_few_passes(model)
    for module in model.modules():
        if type(module).__name__ in FEW_PASSES:
            module.forward = types.MethodType(_attention_in_few_passes, module)


def _last_hidden(model: torch.nn.Module, packed: PackedBatch) -> torch.Tensor:
    """(1, N, width) last hidden states."""
    return model.base_model(
        input_ids=packed.input_ids,
        position_ids=packed.position_ids,
        attention_mask=_no_mask(packed),
        use_cache=False,
        packed_batch=packed,
    ).last_hidden_state


def _no_mask(packed: PackedBatch) -> torch.Tensor:
    """Passed through as it is; empty, so that attention that ignores `packed_batch` fails instead of leaking."""
    return packed.input_ids.new_empty((1, 1, 0, 0), dtype=torch.bool)


def _log_probs(hidden, weight, bias, labels, temperature: float, entropy: bool):
    """Log-probabilities of labels (S,) behind hidden states (S, width), and entropies or None."""
    if hidden.device.type == "cpu":
        return HeadLogProbs.apply(hidden, weight, bias, labels, temperature, entropy)
    outputs = ("entropy",) if entropy else ()
    log_probs, entropies, *_ = ChunkedLogProbFunction.apply(
        hidden, weight, bias, labels, temperature, VOCABULARY_CHUNK, None, 1.0, outputs
    )
    return log_probs, entropies


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    packed_batch: PackedBatch | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention over a packed batch: query (1, heads, N, d), key and value (1, kv heads, N, d) → (1, N, heads, d)."""
    if packed_batch is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **kwargs)
    found = [name for name in UNSUPPORTED if kwargs.get(name) is not None]
    if found:
        raise UnsupportedModelError(
            f"{type(module).__name__} attends with {', '.join(found)}, which packed training does not compute; "
            "set speedups.packing and speedups.share_prompts to false"
        )
    attended = _attend(*(x[0].transpose(0, 1) for x in (query, key, value)), packed_batch, dropout, scaling)
    return attended[None], None


def _attention_in_few_passes(
    self,
    hidden_states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor | None = None,
    past_key_values=None,
    packed_batch: PackedBatch | None = None,
    **kwargs,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The forward pass of an attention layer of `FEW_PASSES`: hidden states (1, N, width) → the same shape."""
    cos, sin = (table[0, :, None] for table in position_embeddings)
    plain = torch.float32 == hidden_states.dtype == cos.dtype and not torch.is_autocast_enabled("cpu")
    if packed_batch is None or hidden_states.device.type != "cpu" or not plain:
        packed = {} if packed_batch is None else {"packed_batch": packed_batch}
        return type(self).forward(
            self, hidden_states, position_embeddings, attention_mask, past_key_values, **packed, **kwargs
        )
    q, k, v = (project(hidden_states[0]) for project in (self.q_proj, self.k_proj, self.v_proj))
    q, k, v = (x.unflatten(-1, (-1, self.head_dim)) for x in (q, k, v))
    if hasattr(self, "q_norm"):
        q, k = self.q_norm(q), self.k_norm(k)
    dropout = self.attention_dropout if self.training else 0.0
    attended = _attend(rotated(q, cos, sin), rotated(k, cos, sin), v, packed_batch, dropout, self.scaling)
    return self.o_proj(attended.flatten(1))[None], None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    batch: PackedBatch,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """query (N, heads, d), key and value (N, kv heads, d), all in packed order → (N, heads, d)."""
    sizes = [block.rows * block.length for block in batch.blocks]
    # The backward pass of a split writes its gradient once; that of a slice writes zeros for all else each time.
    parts = [_ToSlots.apply(x, batch).split(sizes) for x in (query, key, value)]
    views = [
        [x.view(block.rows, block.length, *x.shape[1:]).transpose(1, 2) for x in block_parts]
        for block, *block_parts in zip(batch.blocks, *parts, strict=True)
    ]  # (rows, heads, length, d)
    outputs = []
    for block, (q, k, v) in zip(batch.blocks, views, strict=True):
        if block.prefix_of is not None:
            prefix_k, prefix_v = views[0][1:]
            k = torch.cat([prefix_k.index_select(0, block.prefix_of), k], dim=2)
            v = torch.cat([prefix_v.index_select(0, block.prefix_of), v], dim=2)
        on_cpu = q.device.type == "cpu"  # on a GPU the kernels that take a mask know no groups of heads
        if not on_cpu:
            groups = q.shape[1] // k.shape[1]
            k, v = repeat_kv(k, groups), repeat_kv(v, groups)
        attended = scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=None if block.mask is None else block.mask.to(q.dtype),
            dropout_p=dropout,
            scale=scaling,
            is_causal=block.mask is None,
            enable_gqa=on_cpu,
        )
        outputs.append(attended.transpose(1, 2).flatten(0, 1))  # (rows × length, heads, d)
    return _FromSlots.apply(torch.cat(outputs), batch)


class _ToSlots(torch.autograd.Function):
    """Packed order → padded order. Each packed position has one slot, so the gradient is a gather as well; autograd's
    own backward of indexing would add row by row. What padding slots receive is zero and is dropped."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        ctx.batch = batch
        return x.index_select(0, batch.to_slots)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        return grad.index_select(0, ctx.batch.from_slots), None


class _FromSlots(torch.autograd.Function):
    """Padded order → packed order; padding slots get no gradient."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, batch: PackedBatch) -> torch.Tensor:
        ctx.batch, ctx.slots = batch, x.shape[0]
        return x.index_select(0, batch.from_slots)

    @staticmethod
    def backward(ctx, grad: torch.Tensor):
        out = grad.new_zeros((ctx.slots, *grad.shape[1:]))
        out[ctx.batch.from_slots] = grad
        return out, None


AttentionInterface.register(NAME, packed_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
