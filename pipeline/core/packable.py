"""Which models the packed forward pass of training and the decoder of rollouts can compute, by their configuration.

Both attend with one softmax over all keys before a token, and divide logits by the temperature alone.
"""

from typing import Any

SCALED_HEADS = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Entries by which some models scale their logits."""
OTHER_ATTENTION = (
    "attn_logit_softcapping",
    "attention_sinks",
    "alibi",
    "position_embedding_type",
    "attention_chunk_size",
)
"""Entries by which some attend otherwise."""
OTHER_KINDS = {
    "gpt_oss": "attention sinks", "mamba": "a state space", "mamba2": "a state space", "falcon_mamba": "a state space",
    "rwkv": "linear attention", "jamba": "a state space", "bamba": "a state space", "zamba": "a state space",
    "zamba2": "a state space", "recurrent_gemma": "linear recurrence", "bloom": "ALiBi", "mpt": "ALiBi",
    "nemotron_h": "a state space", "falcon_h1": "a state space", "granitemoehybrid": "a state space",
}  # fmt: skip
"""Types of models that do not say so in an entry of their own."""


def batch_rotation(config: Any, tokens: int) -> str | None:
    """The kind of rotary embeddings that follow the longest row of a batch (`dynamic`, `longrope`), where texts of
    `tokens` tokens are long enough for it; None where a row's logits do not depend on the others.

    transformers 5.17 takes other frequencies for the whole batch once one row is longer than the model's original
    context, so that log-probabilities of training and sampling would differ.
    """
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    rope = getattr(text, "rope_parameters", None) or {}
    kind = rope.get("rope_type", rope.get("type"))
    original = rope.get("original_max_position_embeddings") or getattr(text, "original_max_position_embeddings", None)
    return kind if kind in ("dynamic", "longrope") and tokens > (original or text.max_position_embeddings) else None


def not_packed(config: Any) -> list[str]:
    """What a model of this transformers configuration computes that the packed pass does not; empty for most."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    found = [name for name in SCALED_HEADS if getattr(text, name, None) not in (None, 1.0)]
    found += [name for name in OTHER_ATTENTION if getattr(text, name, None) not in (None, False, "absolute", "rope")]
    layers = sorted(set(getattr(text, "layer_types", None) or []) - {"full_attention"})
    if not layers and getattr(text, "sliding_window", None) is not None:
        layers = ["sliding_window"]
    found += layers
    if text.model_type in OTHER_KINDS:
        found.append(OTHER_KINDS[text.model_type])
    return found
