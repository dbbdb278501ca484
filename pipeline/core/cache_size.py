"""What attention keeps of a token while a model writes, by the model's configuration."""

from typing import Any


def latent_numbers(config: Any) -> int | None:
    """Numbers that multi-head latent attention keeps of a token in a layer: the latent that keys and values come from,
    and the rotary part of the keys (DeepSeek-V2, arXiv 2405.04434, section 2.1). None for other attention.

    `config` is a mapping, or has the entries as attributes.
    """
    rank = _entry(config, "kv_lora_rank")
    return None if rank is None else rank + _entry(config, "qk_rope_head_dim")


def cached_numbers(config: Any, latent: bool = True) -> int | None:
    """Numbers kept of a token in all layers: of latent attention the latent, or, unless `latent`, the keys and values
    of each head, padded to one size. None where the configuration does not say how many heads hold them."""
    layers, heads = _entry(config, "num_hidden_layers"), _entry(config, "num_key_value_heads")
    held = latent_numbers(config)
    if held is not None and latent:
        return layers * held
    if held is not None:
        size = _entry(config, "qk_nope_head_dim") + _entry(config, "qk_rope_head_dim")
        return 2 * layers * _entry(config, "num_attention_heads") * size
    if heads is None:
        return None
    size = _entry(config, "head_dim") or _entry(config, "hidden_size") // _entry(config, "num_attention_heads")
    return 2 * layers * heads * size


def _entry(config: Any, name: str) -> int | None:
    return config.get(name) if isinstance(config, dict) else getattr(config, name, None)
