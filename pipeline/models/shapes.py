"""How large a model is, from its configuration alone: the one in the checkpoint, the GGUF file, or as published."""

from dataclasses import replace
from pathlib import Path

from pipeline.core.causal_lm import held_modules
from pipeline.models.config_file import EXPERT_COUNTS, read_config
from pipeline.models.model_shape import Experts, Latent, ModelShape
from pipeline.models.sources import gguf_file, inner_source, local_folder, split_cut, split_source
from pipeline.models.surgery import chosen_layers

DENSE = ("llama", "qwen2", "qwen3", "mistral")
OF_EXPERTS = ("deepseek_v2", "deepseek_v3", "qwen3_moe", "olmoe")
"""transformers' types of the models whose shapes are known."""


def _qwen2(hidden, layers, heads, kv_heads, intermediate, vocabulary, tied, context=32768) -> ModelShape:
    return ModelShape(
        hidden, layers, heads, kv_heads, hidden // heads, intermediate, vocabulary, tied, context, attention_biases=True
    )


def _deepseek(intermediate: int, vocabulary: int, context: int) -> ModelShape:
    """Of 16 billion weights."""
    experts, latent = Experts(64, 6, 1408, shared=2, dense_layers=1), Latent(512, None, 128, 64, 128)
    shape = ModelShape(2048, 27, 16, 16, 192, intermediate, vocabulary, False, context)
    return replace(shape, experts=experts, latent=latent)


def _llama(hidden, layers, heads, kv_heads, head_size, intermediate, tied) -> ModelShape:
    return ModelShape(hidden, layers, heads, kv_heads, head_size, intermediate, 128256, tied, 131072)


PUBLISHED = {
    "Qwen/Qwen2.5-0.5B": _qwen2(896, 24, 14, 2, 4864, 151936, True),
    "Qwen/Qwen2.5-1.5B": _qwen2(1536, 28, 12, 2, 8960, 151936, True, 131072),
    "Qwen/Qwen2.5-7B": _qwen2(3584, 28, 28, 4, 18944, 152064, False, 131072),
    "Qwen/Qwen2.5-14B": _qwen2(5120, 48, 40, 8, 13824, 152064, False, 131072),
    "Qwen/Qwen2.5-32B": _qwen2(5120, 64, 40, 8, 27648, 152064, False, 131072),
    "Qwen/Qwen2.5-Math-1.5B": _qwen2(1536, 28, 12, 2, 8960, 151936, True, 4096),
    "Qwen/Qwen2.5-Math-7B": _qwen2(3584, 28, 28, 4, 18944, 152064, False, 4096),
    "HuggingFaceTB/SmolLM2-135M": ModelShape(576, 30, 9, 3, 64, 1536, 49152, True, 8192),
    "meta-llama/Llama-3.2-1B": _llama(2048, 16, 32, 8, 64, 8192, True),
    "meta-llama/Llama-3.2-3B": _llama(3072, 28, 24, 8, 128, 8192, True),
    "meta-llama/Llama-3.1-8B": _llama(4096, 32, 32, 8, 128, 14336, False),
    "meta-llama/Llama-3.3-70B-Instruct": _llama(8192, 80, 64, 8, 128, 28672, False),
    "deepseek-ai/DeepSeek-V2-Lite": _deepseek(10944, 102400, 163840),
    "moonshotai/Moonlight-16B-A3B": _deepseek(11264, 163840, 8192),
    "Qwen/Qwen3-30B-A3B-Base": ModelShape(
        2048, 48, 32, 4, 128, 6144, 151936, False, 32768, head_norms=True, experts=Experts(128, 8, 768)
    ),
    "allenai/OLMoE-1B-7B-0924": ModelShape(
        2048, 16, 16, 16, 128, 1024, 50304, False, 4096, experts=Experts(64, 8, 1024)
    ),
}
"""The config.json of models that profiles here name, or could, for machines that do not have them yet."""


PUBLISHED_PARAMETERS = {"deepseek-ai/DeepSeek-V3-Base": 671e9}
"""Weights of models of other shapes, by their cards: https://huggingface.co/deepseek-ai/DeepSeek-V3-Base."""


def parameters_of(source: str) -> float | None:
    """How many weights a source has; None where nothing here says it."""
    scheme, path = split_source(source)
    shape = shape_of(source)
    return shape.parameters if shape else PUBLISHED_PARAMETERS.get(path) if scheme == "hub" else None


def active_of(source: str) -> float | None:
    """How many of a source's weights a token uses; None where nothing here says it."""
    shape = shape_of(source)
    return shape.active_parameters if shape else None


def shape_of(source: str) -> ModelShape | None:
    """The shape of a model source; None where nothing here says it, or where its layers are of no kind known here."""
    scheme, path = split_source(source)
    if scheme == "as-qwen2":
        shape = shape_of(path)
        return shape and replace(shape, attention_biases=True)
    if scheme == "cut":
        shape = shape_of(inner_source(source))
        return shape and _cut(shape, chosen_layers(split_cut(path)[0], shape.layers))
    if scheme in ("gguf", "package"):
        return _of_gguf(gguf_file(source))
    if scheme == "hub":
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(path, "config.json")
        return _of_config(Path(cached)) if isinstance(cached, str) else PUBLISHED.get(path)
    return _of_config(local_folder(source) / "config.json")


def _cut(shape: ModelShape, kept: list[int]) -> ModelShape:
    experts = shape.experts
    if experts and experts.dense_layers <= shape.layers:
        experts = replace(experts, dense_layers=sum(index < experts.dense_layers for index in kept))
    return replace(shape, layers=len(kept), experts=experts)


def _of_config(file: Path) -> ModelShape | None:
    config = read_config(file)
    kind = config.get("model_type")
    if kind not in (*DENSE, *OF_EXPERTS) or _has_experts_here_and_there(config):
        return None
    heads, latent = config["num_attention_heads"], _latent_of(config)
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    return ModelShape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=latent.without_position + latent.rotary if latent else head_size,
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        context=config.get("max_position_embeddings", 2**31),
        attention_biases=kind == "qwen2" or bool(config.get("attention_bias")),
        head_norms=kind in ("qwen3", "qwen3_moe"),
        experts=_experts_of(config) if kind in OF_EXPERTS else None,
        latent=latent,
        modules=_modules_of(config, file.parent),
    )


def _modules_of(config: dict, folder: Path) -> int:
    """Those in the files, as whoever loads them counts; where only the configuration is here, those that it names."""
    return held_modules(folder) if any(folder.glob("*.safetensors")) else config.get("num_nextn_predict_layers") or 0


def _has_experts_here_and_there(config: dict) -> bool:
    """Whether dense layers come between those of experts, which a `ModelShape` does not say."""
    return bool(config.get("mlp_only_layers")) or any(
        config.get(key, 1) != 1 for key in ("decoder_sparse_step", "moe_layer_freq")
    )


def _experts_of(config: dict) -> Experts:
    return Experts(
        routed=next(config[key] for key in EXPERT_COUNTS if config.get(key)),
        per_token=config["num_experts_per_tok"],
        width=config.get("moe_intermediate_size") or config["intermediate_size"],
        shared=config.get("n_shared_experts") or 0,
        dense_layers=config.get("first_k_dense_replace") or 0,
    )


def _latent_of(config: dict) -> Latent | None:
    if config.get("kv_lora_rank") is None:
        return None
    return Latent(
        rank=config["kv_lora_rank"],
        query_rank=config.get("q_lora_rank"),
        without_position=config["qk_nope_head_dim"],
        rotary=config["qk_rope_head_dim"],
        values=config["v_head_dim"],
    )


def _of_gguf(file: Path) -> ModelShape | None:
    from gguf import GGUFReader

    reader = GGUFReader(file)
    kind = reader.fields["general.architecture"].contents()
    if kind not in ("llama", "qwen2", "qwen3"):
        return None

    def number(key: str) -> int | None:
        field = reader.fields.get(f"{kind}.{key}")
        return None if field is None else int(field.contents())

    heads, hidden = number("attention.head_count"), number("embedding_length")
    return ModelShape(
        hidden=hidden,
        layers=number("block_count"),
        heads=heads,
        kv_heads=number("attention.head_count_kv") or heads,
        head_size=number("attention.key_length") or hidden // heads,
        intermediate=number("feed_forward_length"),
        vocabulary=len(reader.fields["tokenizer.ggml.tokens"].data),
        tied=not any(tensor.name == "output.weight" for tensor in reader.tensors),
        context=number("context_length"),
        attention_biases=kind == "qwen2",
        head_norms=kind == "qwen3",
    )
