"""A checkpoint as one GGUF file that llama.cpp and Ollama load, weights as they are, tokenizer and template included.

Names and meanings of the keys: the GGUF specification of ggml, and llama.cpp's conversion of the same architectures.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import ConfigError
from pipeline.core.heads import HEAD, has_own_head
from pipeline.core.stored import stored_tensors
from pipeline.core.tokens import TAGS, beginning, load_tokenizer
from pipeline.engines.engine import end_token_ids
from pipeline.models.gguf_config import llama3_factors
from pipeline.models.gguf_tokenizer import CONTROL, NORMAL, UNUSED, USER_DEFINED, pre_tokenizer_name

ARCHITECTURES = {"LlamaForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3"}
FILE_TYPES = {"BF16": 32, "F16": 1, "F32": 0}
"""`general.file_type`: what most of the weights are stored as."""


def write_gguf(checkpoint: Path, file: Path, name: str, chat_template: str | None = None) -> None:
    """Writes the checkpoint folder as `file`, whole or not at all. `name` is the model's name in it, `chat_template`
    stands in it in place of the tokenizer's own.

    Raises ConfigError for an architecture or a tokenizer that this does not know to write, and for a checkpoint that
    lacks weights.
    """
    from gguf import GGUFWriter
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint)
    kind = ARCHITECTURES.get((config.architectures or ["none"])[0])
    if kind is None:
        raise ConfigError(
            f"{checkpoint} is a {(config.architectures or ['model of no architecture'])[0]}. "
            f"GGUF files are written for {', '.join(ARCHITECTURES)}."
        )
    _check_complete(checkpoint, config)
    partial = file.with_name(file.name + ".partial")
    writer = GGUFWriter(partial, kind)
    writer.add_name(name)
    _add_shape(writer, config)
    tokenizer = load_tokenizer(checkpoint)
    tokenizer.chat_template = chat_template or tokenizer.chat_template
    _add_tokenizer(writer, tokenizer, checkpoint, config.vocab_size)
    types = set()
    for tensor_name, tensor in _tensors(checkpoint, kind, config):
        array, stored_type = _stored(tensor)
        writer.add_tensor(tensor_name, array, raw_dtype=stored_type)
        types.add(stored_type)
    writer.add_file_type(
        next((number for stored, number in FILE_TYPES.items() if stored in {t.name for t in types}), 0)
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    partial.replace(file)


def _check_complete(checkpoint: Path, config) -> None:
    """Raises ConfigError where the checkpoint's safetensors files lack a weight that its configuration asks for."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        needed = {name for name, _ in AutoModelForCausalLM.from_config(config).named_parameters()}
    if config.tie_word_embeddings:
        needed.discard(HEAD)
    if missing := sorted(needed - stored_tensors(checkpoint).keys()):
        raise ConfigError(
            f"{checkpoint} lacks {len(missing)} of the {len(needed)} weights that its config.json asks for, such as "
            f"{missing[0]}. Expected all of them in its .safetensors files: is a file missing? Copy the folder again."
        )


def _add_shape(writer, config) -> None:
    heads = config.num_attention_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads or heads)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    writer.add_rope_dimension_count(head_size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    rope = config.rope_parameters
    writer.add_rope_freq_base(rope["rope_theta"])
    if rope.get("rope_type", "default") == "linear":
        from gguf import RopeScalingType

        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope.get("rope_type", "default") not in ("default", "llama3"):  # llama3's goes in as a tensor
        raise ConfigError(f"Rotary embeddings of the type {rope['rope_type']!r} cannot be written to a GGUF file here.")


def _add_tokenizer(writer, tokenizer, checkpoint: Path, vocabulary: int) -> None:
    name = pre_tokenizer_name(tokenizer)
    model = json.loads((checkpoint / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    if model["type"] != "BPE":
        raise ConfigError(f"The tokenizer of {checkpoint} is a {model['type']}; GGUF files are written for BPE here.")
    if model.get("ignore_merges", False) != (name == "llama-bpe"):
        raise ConfigError(
            f"The tokenizer of {checkpoint} has ignore_merges {model.get('ignore_merges', False)} and cuts text like "
            f"{name}; llama.cpp takes whole words from the vocabulary for llama-bpe and for no other. Use FORMAT=hf."
        )
    added = tokenizer.added_tokens_decoder
    tokens = {index: token for token, index in tokenizer.get_vocab().items()}
    texts = [tokens.get(index, f"[PAD{index}]") for index in range(vocabulary)]
    types = [
        (CONTROL if added[i].special and added[i].content not in TAGS else USER_DEFINED)  # control tokens are not shown
        if i in added
        else (NORMAL if i in tokens else UNUSED)
        for i in range(vocabulary)
    ]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(name)
    writer.add_token_list(texts)
    writer.add_token_types(types)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    _add_ends(writer, tokenizer, checkpoint)
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(bool(beginning(tokenizer)))
    writer.add_add_space_prefix(False)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _add_ends(writer, tokenizer, checkpoint: Path) -> None:
    """The end tokens: the tokenizer's, and those of generation_config.json as ends of a turn and of a message."""
    others = sorted(end_token_ids(tokenizer, str(checkpoint)) - {tokenizer.eos_token_id})
    writer.add_eos_token_id(tokenizer.eos_token_id)
    if len(others) > 2:
        raise ConfigError(
            f"{checkpoint} ends an answer with {len(others) + 1} tokens by its generation_config.json, and a GGUF file "
            "has room for three. Take out of its eos_token_id those that the model does not write."
        )
    for add, number in zip((writer.add_eot_token_id, writer.add_eom_token_id), others, strict=False):
        add(number)


def _tensors(checkpoint: Path, kind: str, config) -> Iterator[tuple]:
    """(GGUF name, tensor) of each weight in the form that llama.cpp multiplies with."""
    from gguf import MODEL_ARCH, get_tensor_name_map
    from safetensors import safe_open

    arch = next(arch for arch in MODEL_ARCH if arch.name.lower() == kind)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    tied = config.tie_word_embeddings and not has_own_head(checkpoint)
    for file in sorted(checkpoint.glob("*.safetensors")):
        with safe_open(file, "pt") as stored:
            for name in sorted(stored.keys()):
                if name == HEAD and tied:
                    continue
                tensor = stored.get_tensor(name)
                if kind == "llama" and name.endswith(("q_proj.weight", "q_proj.bias")):
                    tensor = _interleaved(tensor, config.num_attention_heads)
                if kind == "llama" and name.endswith(("k_proj.weight", "k_proj.bias")):
                    tensor = _interleaved(tensor, config.num_key_value_heads or config.num_attention_heads)
                found = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if found is None:
                    raise ConfigError(f"GGUF files of the architecture {kind} have no place for {name}.")
                yield found, tensor
    if config.rope_parameters.get("rope_type") == "llama3":
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        yield "rope_freqs.weight", llama3_factors(config.rope_parameters, size)


def _interleaved(weight, heads: int):
    """Rows of each head reordered from halves to pairs: llama.cpp turns neighbouring numbers of Llama models."""
    size = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, size, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape).contiguous()


def _stored(tensor):
    """(numpy array, GGUF type): matrices as they are, vectors in float32, as llama.cpp wants norms and biases."""
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType as Type

    if tensor.ndim == 1 or tensor.dtype == torch.float32:
        return tensor.float().numpy(), Type.F32
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint8).numpy().view(np.uint8), Type.BF16
    return tensor.half().numpy(), Type.F16
