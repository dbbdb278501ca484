"""Operations of an update, and the machine's own peak."""

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3MoeConfig

from pipeline.training.flops import ModelFlops, attended_pairs, matmul_peak


def model_of(config):
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("tied", [True, False])
def test_a_llama_by_hand(tied):
    config = LlamaConfig(
        vocab_size=100, hidden_size=16, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip
    layer = 16 * 16 + 2 * 16 * 8 + 16 * 16 + 3 * 16 * 40
    flops = ModelFlops(model_of(config))
    assert flops.forward(tokens=7, scored=5, pairs=0) == 2 * (7 * 3 * layer + 5 * 16 * 100)
    assert flops.forward(tokens=0, scored=0, pairs=2) == 2 * 4 * 3 * 16


def test_a_token_pays_for_its_own_experts_alone():
    shape = dict(
        vocab_size=64, hidden_size=16, moe_intermediate_size=8, intermediate_size=8, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, head_dim=8, decoder_sparse_step=1, mlp_only_layers=[],
    )  # fmt: skip
    one, two = (
        ModelFlops(model_of(Qwen3MoeConfig(num_experts=8, num_experts_per_tok=k, **shape))).body for k in (1, 2)
    )
    assert two - one == 2 * 2 * 3 * 16 * 8


def test_attended_pairs_grow_along_the_completion():
    assert attended_pairs(10, 4) == pytest.approx(sum(10 + place + 0.5 for place in range(4)))


def test_peak_is_a_plausible_rate():
    assert 1e8 < matmul_peak(torch.device("cpu"), torch.float32, seconds=0.05) < 1e14
