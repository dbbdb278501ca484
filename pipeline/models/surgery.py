"""New bases made of a checkpoint that is here: fewer of its layers, or the same function in another architecture."""

import re
from pathlib import Path

from pipeline.core.causal_lm import load_causal_lm
from pipeline.core.errors import ConfigError
from pipeline.core.generation import settle_generation

_RANGES = re.compile(r"\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*")


def chosen_layers(text: str, layers: int | None = None) -> list[int]:
    """The layers that `0-9,28,29` (ranges, both ends included) or `12` (so many, evenly spread) name.

    `layers` is how many the model has, None where that is not known yet: then only the writing is checked and a bare
    number gives an empty list. Raises ConfigError for anything else.
    """
    if not _RANGES.fullmatch(text):
        raise ConfigError(
            f"cut:{text}: expected layers such as 0-9,28,29, or a number of layers to keep, before the colon."
        )
    if text.isdigit():
        return [] if layers is None else _evenly(int(text), layers)
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    if not found or found != sorted(set(found)):
        raise ConfigError(f"cut:{text}: layers should rise and none stand twice, for a model works in their order.")
    if layers is not None and found[-1] >= layers:
        raise ConfigError(f"cut:{text}: the model has the layers 0-{layers - 1} and no layer {found[-1]}.")
    return found


def _evenly(kept: int, layers: int) -> list[int]:
    """The first layer, the last one, and those between at even distances."""
    if not 2 <= kept <= layers:
        raise ConfigError(f"cut:{kept}: the model has {layers} layers; keep 2 to {layers} of them.")
    return [round(index * (layers - 1) / (kept - 1)) for index in range(kept)]


def cut_layers(checkpoint: Path, layers: str) -> None:
    """Leaves the checkpoint in the folder with the named layers only."""
    import torch

    model = load_causal_lm(checkpoint, dtype="auto")
    config = model.config
    kept = chosen_layers(layers, config.num_hidden_layers)
    _tell_experts(config, kept)
    further = model.model.layers[config.num_hidden_layers :]  # multi-token prediction modules
    model.model.layers = torch.nn.ModuleList([*(model.model.layers[index] for index in kept), *further])
    config.num_hidden_layers = len(kept)
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    replace_model(model, checkpoint)


def _tell_experts(config, kept: list[int]) -> None:
    """Has the configuration of a mixture of experts say which of the kept layers are dense, in its own way: DeepSeek's
    the first so many, Qwen3's by number."""
    first = getattr(config, "first_k_dense_replace", None)
    if first is not None and first <= config.num_hidden_layers:  # else all are dense, whatever stands behind them
        config.first_k_dense_replace = sum(index < first for index in kept)
    if hasattr(config, "mlp_only_layers"):
        step, dense = config.decoder_sparse_step, config.mlp_only_layers or []
        config.mlp_only_layers = [place for place, old in enumerate(kept) if old in dense or (old + 1) % step]
        config.decoder_sparse_step = 1


def llama_as_qwen2(checkpoint: Path) -> None:
    """Turns the Llama checkpoint in the folder into a Qwen2 one that computes the same function.

    Qwen2 is Llama with biases in the query, key and value projections, so zero biases change nothing (up to the order
    of additions). The vocabulary stays, but transformers cuts the text of every Qwen2 folder by Qwen2's rules before
    it merges, which can write blank lines with other tokens than the Llama model did.
    Raises ConfigError where the model is no Llama or uses what Qwen2 cannot express.
    """
    import torch
    from transformers import AutoConfig, Qwen2Config, Qwen2ForCausalLM

    old = AutoConfig.from_pretrained(checkpoint)
    if old.model_type != "llama":
        raise ConfigError(f"as-qwen2: expected a Llama model; this one is of the architecture {old.model_type}.")
    for key, wanted in (("head_dim", old.hidden_size // old.num_attention_heads), ("mlp_bias", False)):
        if getattr(old, key, wanted) not in (None, wanted):
            raise ConfigError(f"as-qwen2: the model has {key} {getattr(old, key)}; Qwen2 can only have {wanted}.")
    shared = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "num_key_value_heads", "hidden_act", "max_position_embeddings", "rms_norm_eps", "rope_parameters",
        "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    model = load_causal_lm(checkpoint, dtype="auto")
    with torch.device("meta"):
        new = Qwen2ForCausalLM(Qwen2Config(**{key: getattr(old, key) for key in shared}))
    weights = model.state_dict()
    for name, parameter in new.named_parameters():
        if name not in weights and name.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias")):
            weights[name] = torch.zeros(parameter.shape, dtype=model.dtype)
    unused = sorted(weights.keys() - new.state_dict().keys())
    if unused:  # a bias of the attention's output projection
        raise ConfigError(f"as-qwen2: Qwen2 has no place for {', '.join(unused[:3])} of the Llama model.")
    new.load_state_dict(weights, assign=True)
    new.tie_weights()
    new.generation_config = model.generation_config
    replace_model(new, checkpoint)


def replace_model(model, checkpoint: Path) -> None:
    """Saves the model over the weights and the configuration in the folder; the tokenizer stays."""
    for file in [*checkpoint.glob("*.safetensors"), *checkpoint.glob("*.index.json")]:
        file.unlink()
    settle_generation(model)
    model.save_pretrained(checkpoint)
