"""Dense Llama, Mistral, Qwen2 and Qwen3 models, a token of many rows at a time, with few operations.

    decoding = Decoder(model, positions=256).begin(prompts, counts=[16] * len(prompts), most=128)
    while …:
        tokens = choose(decoding.logits)
        decoding.step(tokens)

What `generate` does in Python for each token (masks, cache objects, processors) costs more than a small model's
arithmetic; here the cache is two tensors a layer that are written in place. The weights are the model's own: whoever
writes into its parameters changes what is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention
from transformers.integrations.sdpa_attention import repeat_kv

from pipeline.core.packable import not_packed

DECODED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
FIXED_ROTATION = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary embedding whose angles follow from the position alone."""
PREFILL_TOKENS = 8192
"""Prompt tokens that go through the model at once, padding included; a longer prompt goes alone."""
FIRST_SLOTS = 64
"""Completion tokens that a new cache has room for; it grows by half of itself."""


def not_decoded(model: nn.Module) -> str:
    """The part of this model that a `Decoder` does not support; '' if it supports all of it."""
    if type(model).__name__ not in DECODED:
        return f"it is a {type(model).__name__}"
    if other := not_packed(model.config):
        return f"it has {', '.join(other)}"
    if (kind := model.model.rotary_emb.rope_type) not in FIXED_ROTATION:
        return f"its rotary embedding is of the kind {kind!r}"
    for name, module in model.named_modules():
        plain = type(module) in (nn.Linear, nn.Embedding) or type(module).__name__.endswith("RMSNorm")
        if not plain and next(module.parameters(recurse=False), None) is not None:
            return f"its {name} is a {type(module).__name__}"
    return ""


class Decoder:
    """The forward pass of a model in which `not_decoded` finds nothing."""

    def __init__(self, model: nn.Module, positions: int):
        """`positions`: tokens of the longest prompt and completion together.

        Projections of the same input become views of one tensor, in the model too.
        """
        config, base = model.config, model.model
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = base.layers[0].self_attn.head_dim
        self.embedding, self.head, self.norm = base.embed_tokens.weight, model.lm_head, base.norm
        self.layers = [_Layer.of(layer) for layer in base.layers]
        with torch.no_grad():
            every = torch.arange(positions, device=self.embedding.device)[None]
            cos, sin = base.rotary_emb(self.embedding, every)
        first, second = sin[0].chunk(2, dim=-1)
        self.cos, self.sin = cos[0], torch.cat([-first, second], dim=-1)
        """(positions, head dimension); each half of `sin` has the sign that the other half's numbers get."""

    def begin(self, prompts: Sequence[list[int]], counts: Sequence[int], most: int) -> "Decoding":
        """Put the prompts through the model, each once, for `counts` rows of it and up to `most` further tokens."""
        return Decoding(self, prompts, counts, most)

    def queries_keys_values(self, x: torch.Tensor, layer: "_Layer", cos: torch.Tensor, sin: torch.Tensor):
        """(rows, width) → (rows, heads, head dimension) and twice (rows, kv heads, head dimension), rotated."""
        joined = linear(_normed(x, layer.attention_norm), layer.qkv, layer.qkv_bias)
        q, k, v = joined.view(len(x), -1, self.head_dim).split([self.heads, self.kv_heads, self.kv_heads], dim=1)
        if layer.q_norm is not None:
            q, k = _normed(q, layer.q_norm), _normed(k, layer.k_norm)
            qk = torch.cat([q, k], dim=1)
        else:
            qk = joined.view(len(x), -1, self.head_dim)[:, : self.heads + self.kv_heads]
        turned = torch.addcmul(qk * cos, qk.roll(self.head_dim // 2, dims=-1), sin)
        return turned[:, : self.heads], turned[:, self.heads :], v

    def after_attention(self, x: torch.Tensor, attended: torch.Tensor, layer: "_Layer") -> torch.Tensor:
        """The rest of a layer, from (rows, heads × head dimension) of its attention."""
        x = x + layer.out(attended)
        gate, up = linear(_normed(x, layer.mlp_norm), layer.gate_up, layer.gate_up_bias).chunk(2, dim=-1)
        return x + layer.down(layer.activation(gate) * up)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(_normed(x, self.norm))


class Decoding:
    """Rows that are being written with a `Decoder`: their cache and the logits of their next tokens.

    Rows are numbered prompt by prompt. Prompts are padded on the left, so that all rows write the same slot.
    """

    def __init__(self, decoder: Decoder, prompts: Sequence[list[int]], counts: Sequence[int], most: int):
        self._decoder = decoder
        device, dtype = decoder.embedding.device, decoder.embedding.dtype
        self._slot = max(map(len, prompts))
        self._last = self._slot + most
        slots = self._slot + min(most, FIRST_SLOTS)
        shape = (sum(counts), decoder.kv_heads, slots, decoder.head_dim)
        self._cache = [[torch.empty(shape, dtype=dtype, device=device) for _ in range(2)] for _ in decoder.layers]
        """Keys and values of each layer, (rows, kv heads, slots, head dimension)."""
        lengths = [len(ids) for ids, count in zip(prompts, counts, strict=True) for _ in range(count)]
        self._position = torch.tensor(lengths, device=device)
        """(rows,) position of the next token."""
        self._hidden = None
        """(rows, 1, 1, slots to come) what is added to attention's scores: -inf for padding; None without padding."""
        if min(lengths) < self._slot:
            padding = torch.arange(self._last, device=device) < self._slot - self._position[:, None]
            hidden = torch.zeros(padding.shape, dtype=dtype, device=device).masked_fill_(padding, float("-inf"))
            self._hidden = hidden[:, None, None]
        self.logits = torch.cat(list(self._prefill(prompts, counts)))
        """(rows, vocabulary) of the next token."""

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows, in this order."""
        self._position = self._position[rows]
        self._hidden = None if self._hidden is None else self._hidden[rows]
        self.logits = self.logits[rows]
        for layer in self._cache:
            for which, old in enumerate(layer):
                layer[which] = new = old.new_empty(len(rows), *old.shape[1:])
                torch.index_select(old[:, :, : self._slot], 0, rows, out=new[:, :, : self._slot])

    def step(self, tokens: torch.Tensor) -> None:
        """Append a token to each row."""
        decoder, slot = self._decoder, self._slot
        if slot == self._cache[0][0].shape[2]:
            self._grow(min(self._last, slot + slot // 2))
        cos, sin = (table[self._position][:, None] for table in (decoder.cos, decoder.sin))
        x = embedding(tokens, decoder.embedding)
        hidden = None if self._hidden is None else self._hidden[..., : slot + 1]
        for layer, (keys, values) in zip(decoder.layers, self._cache, strict=True):
            q, k, v = decoder.queries_keys_values(x, layer, cos, sin)
            keys[:, :, slot], values[:, :, slot] = k, v
            attended = scaled_dot_product_attention(
                q.unflatten(1, (decoder.kv_heads, -1)),  # the heads of a group are queries of one head
                keys[:, :, : slot + 1],
                values[:, :, : slot + 1],
                attn_mask=hidden,
            )
            x = decoder.after_attention(x, attended.flatten(1), layer)
        self.logits = decoder.logits(x)
        self._slot += 1
        self._position += 1

    def _grow(self, slots: int) -> None:
        for layer in self._cache:
            for which, old in enumerate(layer):
                rows, heads, used, width = old.shape
                layer[which] = new = old.new_empty(rows, heads, slots, width)
                new[:, :, :used] = old

    def _prefill(self, prompts: Sequence[list[int]], counts: Sequence[int]):
        """Fill the cache; gives logits of each prompt's rows."""
        each = max(1, PREFILL_TOKENS // self._slot)
        row = 0
        for first in range(0, len(prompts), each):
            some, copies = prompts[first : first + each], torch.tensor(counts[first : first + each])
            copies = copies.to(self._position.device)
            last = row + sum(counts[first : first + each])
            yield self._prefilled(some, copies, slice(row, last)).repeat_interleave(copies, dim=0)
            row = last

    def _prefilled(self, prompts: Sequence[list[int]], copies: torch.Tensor, rows: slice) -> torch.Tensor:
        """Logits after each prompt; its keys and values go into the cache of its rows."""
        decoder, device, length = self._decoder, self._position.device, max(map(len, prompts))
        ids = torch.tensor([[0] * (length - len(one)) + one for one in prompts], device=device)
        padding = torch.tensor([length - len(one) for one in prompts], device=device)
        places = torch.arange(length, device=device)
        positions = (places - padding[:, None]).clamp(min=0).flatten()
        cos, sin = decoder.cos[positions][:, None], decoder.sin[positions][:, None]
        mask = None
        if len(set(map(len, prompts))) > 1:
            seen = (places[:, None] >= places) & (places >= padding[:, None, None])
            mask = (seen | torch.eye(length, dtype=torch.bool, device=device))[:, None]  # padding sees itself
        x = embedding(ids.flatten(), decoder.embedding)
        for layer, cache in zip(decoder.layers, self._cache, strict=True):
            parts = decoder.queries_keys_values(x, layer, cos, sin)
            q, k, v = (part.unflatten(0, ids.shape).transpose(1, 2) for part in parts)
            for kept, made in zip(cache, (k, v), strict=True):
                kept[rows, :, : self._slot - length] = 0  # what is hidden must still be a number
                kept[rows, :, self._slot - length : self._slot] = made.repeat_interleave(copies, dim=0)
            groups = decoder.heads // decoder.kv_heads
            attended = scaled_dot_product_attention(
                q, repeat_kv(k, groups), repeat_kv(v, groups), attn_mask=mask, is_causal=mask is None
            )
            x = decoder.after_attention(x, attended.transpose(1, 2).flatten(0, 1).flatten(1), layer)
        return decoder.logits(x.unflatten(0, ids.shape)[:, -1])


@dataclass(slots=True)
class _Layer:
    """A layer's weights, those of the same input joined."""

    attention_norm: nn.Module
    qkv: torch.Tensor
    qkv_bias: torch.Tensor | None
    q_norm: nn.Module | None
    k_norm: nn.Module | None
    out: nn.Linear
    mlp_norm: nn.Module
    gate_up: torch.Tensor
    gate_up_bias: torch.Tensor | None
    activation: nn.Module
    down: nn.Linear

    @classmethod
    def of(cls, layer: nn.Module) -> "_Layer":
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            layer.input_layernorm,
            *_joined(attention.q_proj, attention.k_proj, attention.v_proj),
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
            attention.o_proj,
            layer.post_attention_layernorm,
            *_joined(mlp.gate_proj, mlp.up_proj),
            mlp.act_fn,
            mlp.down_proj,
        )


def _joined(*projections: nn.Linear) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Weight and bias of them all, in one tensor each; the projections' own become views of it."""
    return _one_tensor([p.weight for p in projections]), _one_tensor([p.bias for p in projections])


@torch.no_grad()
def _one_tensor(parameters: list[nn.Parameter | None]) -> torch.Tensor | None:
    if parameters[0] is None:
        return None
    whole = torch.cat(parameters)
    for parameter, part in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
        parameter.data = part
    return whole


def _normed(x: torch.Tensor, norm: nn.Module) -> torch.Tensor:
    return rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)
