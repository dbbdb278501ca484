"""How large a model is, from its configuration alone: the one in the checkpoint, the GGUF file, or as published."""

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.models.config_file import read_config
from pipeline.models.sources import gguf_file, inner_source, local_folder, split_cut, split_source
from pipeline.models.surgery import chosen_layers


@dataclass(frozen=True)
class ModelShape:
    """A dense decoder of the Llama and Qwen family."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    vocabulary: int
    tied: bool
    context: int
    """Longest text in tokens that the model was made for."""
    attention_biases: bool = False
    head_norms: bool = False

    @property
    def linear_shapes(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of each linear layer but the head: where LoRA adapters go."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys), (queries, self.hidden)]
        feed_forward = [(self.hidden, self.intermediate)] * 2 + [(self.intermediate, self.hidden)]
        return (attention + feed_forward) * self.layers

    @property
    def cached_numbers(self) -> int:
        """A token's keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embeddings, and as many of the head."""
        return self.vocabulary * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Weights of one layer."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_size if self.attention_biases else 0
        norms = 2 * self.hidden + (2 * self.head_size if self.head_norms else 0)
        return sum(inputs * outputs for inputs, outputs in self.linear_shapes) // self.layers + biases + norms

    @property
    def parameters(self) -> int:
        """Stored weights; a tied head counts once."""
        return self.embedding_parameters * (1 if self.tied else 2) + self.layers * self.layer_parameters + self.hidden


def _qwen2(hidden, layers, heads, kv_heads, intermediate, vocabulary, tied, context=32768) -> ModelShape:
    return ModelShape(
        hidden, layers, heads, kv_heads, hidden // heads, intermediate, vocabulary, tied, context, attention_biases=True
    )


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
}
"""The config.json of models that profiles here name, for machines that do not have them yet."""


PUBLISHED_PARAMETERS = {"deepseek-ai/DeepSeek-V3-Base": 671e9}
"""Weights of models of other shapes, by their cards: https://huggingface.co/deepseek-ai/DeepSeek-V3-Base."""


def parameters_of(source: str) -> float | None:
    """How many weights a source has; None where nothing here says it."""
    scheme, path = split_source(source)
    shape = shape_of(source)
    return shape.parameters if shape else PUBLISHED_PARAMETERS.get(path) if scheme == "hub" else None


def shape_of(source: str) -> ModelShape | None:
    """The shape of a model source; None where nothing here says it, or where the model is no dense decoder."""
    scheme, path = split_source(source)
    if scheme == "as-qwen2":
        shape = shape_of(path)
        return shape and replace(shape, attention_biases=True)
    if scheme == "cut":
        shape = shape_of(inner_source(source))
        return shape and replace(shape, layers=len(chosen_layers(split_cut(path)[0], shape.layers)))
    if scheme in ("gguf", "package"):
        return _of_gguf(gguf_file(source))
    if scheme == "hub":
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(path, "config.json")
        return _of_config(Path(cached)) if isinstance(cached, str) else PUBLISHED.get(path)
    return _of_config(local_folder(source) / "config.json")


def _of_config(file: Path) -> ModelShape | None:
    config = read_config(file)
    kind = config.get("model_type")
    if kind not in ("llama", "qwen2", "qwen3", "mistral"):
        return None
    heads = config["num_attention_heads"]
    return ModelShape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads,
        intermediate=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        context=config.get("max_position_embeddings", 2**31),
        attention_biases=kind == "qwen2" or bool(config.get("attention_bias")),
        head_norms=kind == "qwen3",
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
