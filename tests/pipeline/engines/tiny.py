"""Small random checkpoints of the architectures that the ladder serves, made on the spot."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    LlamaConfig,
    OlmoeConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
)

from pipeline.core.buffers import persistent_buffers
from pipeline.core.multi_token import DeepseekV3ForCausalLM

ARCHITECTURES = ("qwen3", "qwen2", "llama")
VOCABULARY = 512
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,  # of 32 numbers each: vLLM on CPU has no smaller heads
    "num_key_value_heads": 1,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "eos_token_id": 1,
    "pad_token_id": 0,
    "bos_token_id": None,
}

DEEPSEEK = {"kv_lora_rank": 16, "q_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16, "v_head_dim": 32}


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens; `<think>` and `</think>` are special tokens of their own."""
    vocabulary = {"<|pad|>": 0, "<|eos|>": 1, "<think>": 2, "</think>": 3}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    vocabulary |= {f"unused{i}": i for i in range(len(vocabulary), VOCABULARY)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|eos|>",
        additional_special_tokens=["<think>", "</think>"],
    )


def tiny_checkpoint(folder: Path, architecture: str, seed: int = 0, **changes) -> Path:
    """A random checkpoint with its tokenizer. Dense Qwen models tie head and embedding, Llama does not."""
    shape = SHAPE | changes
    config = {
        "qwen3": lambda: Qwen3Config(**shape, head_dim=32, tie_word_embeddings=True),
        "qwen2": lambda: Qwen2Config(**shape, tie_word_embeddings=True),
        "llama": lambda: LlamaConfig(**shape, tie_word_embeddings=False),
        "qwen3_moe": lambda: Qwen3MoeConfig(
            **{"decoder_sparse_step": 1, "mlp_only_layers": []} | shape,
            head_dim=32,
            tie_word_embeddings=False,
            num_experts=4,
            num_experts_per_tok=2,
            moe_intermediate_size=64,
        ),
        "olmoe": lambda: OlmoeConfig(**shape, tie_word_embeddings=False, num_experts=4, num_experts_per_tok=2),
        "deepseek_v3": lambda: DeepseekV3Config(
            **{"num_mtp_layers": 0, "first_k_dense_replace": 1} | shape | {"num_key_value_heads": 2},
            **DEEPSEEK,
            tie_word_embeddings=False,
            n_routed_experts=8,
            num_experts_per_tok=2,
            n_group=2,
            topk_group=1,
            n_shared_experts=1,
            moe_intermediate_size=32,
            routed_scaling_factor=1.5,
        ),
    }[architecture]()
    torch.manual_seed(seed)
    ahead = getattr(config, "num_mtp_layers", 0)  # modules that transformers' own class lacks
    model = DeepseekV3ForCausalLM(config) if ahead else AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
        for _, bias in persistent_buffers(model):
            bias.add_(0.05 * torch.randn_like(bias))
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
