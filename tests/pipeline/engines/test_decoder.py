"""The decoder of the engine `transformers` writes what the model itself would: whatever its shape, however rows end."""

import logging

import pytest
import torch
from transformers import AutoModelForCausalLM as Auto
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, Qwen2Config, Qwen3Config, Qwen3MoeConfig

from pipeline.engines import EngineSettings, Sampling, decoder, open_engine, transformers
from pipeline.engines.decoder import Decoder, not_decoded
from pipeline.engines.drawing import draw
from pipeline.engines.writing import write
from tests.pipeline.engines.tiny import tiny_checkpoint

SHAPE = {
    "vocab_size": 160,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 80,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
KINDS = {
    "llama": lambda: LlamaConfig(**SHAPE),
    "llama with every bias": lambda: LlamaConfig(**SHAPE, attention_bias=True, mlp_bias=True),
    "llama 3's rotation": lambda: LlamaConfig(
        **SHAPE, rope_parameters=LLAMA3 | {"rope_theta": 1e4, "original_max_position_embeddings": 32}
    ),
    "yarn": lambda: Qwen2Config(
        **SHAPE,
        rope_parameters={
            "rope_type": "yarn",
            "factor": 4.0,
            "rope_theta": 1e4,
            "original_max_position_embeddings": 64,
        },
    ),
    "one kv head": lambda: Qwen2Config(**SHAPE | {"num_key_value_heads": 1}, tie_word_embeddings=True),
    "as many kv heads": lambda: Qwen2Config(**SHAPE | {"num_key_value_heads": 4}, hidden_act="gelu"),
    "wide heads": lambda: Qwen3Config(**SHAPE, head_dim=32, rms_norm_eps=0.1, tie_word_embeddings=True),
    "biased heads": lambda: Qwen3Config(**SHAPE, head_dim=8, attention_bias=True),
    "mistral": lambda: MistralConfig(**SHAPE, sliding_window=None, head_dim=16),
}
PROMPTS = [[5, 6, 7, 8, 9] * 6, [9, 8, 7], [3], [4, 4, 4]]
COUNTS = [2, 1, 3, 2]


def made(config):
    torch.manual_seed(1)
    model = Auto.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def written(model, sampling, prompts=PROMPTS, counts=COUNTS, end_ids=()):
    """Completions in the order of their rows."""
    generator = torch.Generator().manual_seed(sampling.seed or 0)
    found = dict(write(Decoder(model, 256), prompts, counts, sampling, end_ids, generator))
    assert sorted(found) == list(range(sum(counts)))
    return [found[row] for row in range(len(found))]


@torch.no_grad()
def own(model, prompt, tokens):
    """The model's log-probabilities of `tokens` behind `prompt`."""
    logits = model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_log_probabilities_are_the_models(kind, monkeypatch):
    """Rows of several lengths that end at several times, in a cache that has to grow, prompts a few at a time."""
    monkeypatch.setattr(decoder, "FIRST_SLOTS", 3)
    monkeypatch.setattr(decoder, "PREFILL_TOKENS", 60)
    model = made(KINDS[kind]())
    assert not not_decoded(model)
    rows = written(model, Sampling(max_tokens=70, seed=3), end_ids=range(20))
    asked = [prompt for prompt, count in zip(PROMPTS, COUNTS, strict=True) for _ in range(count)]
    assert len({len(row.token_ids) for row in rows}) > 3
    for prompt, row in zip(asked, rows, strict=True):
        ended = [place for place, token in enumerate(row.token_ids) if token < 20]
        assert ended == [len(row.token_ids) - 1] or (not ended and len(row.token_ids) == 70)
        torch.testing.assert_close(torch.tensor(row.logprobs), own(model, prompt, row.token_ids), atol=1e-4, rtol=0)


def test_the_models_own_weights_are_decoded_with():
    model = made(KINDS["biased heads"]())
    one = Decoder(model, 256)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)
    rows = dict(write(one, [[5, 6]], [1], Sampling(max_tokens=9), (), torch.Generator().manual_seed(0)))
    expected = own(model, [5, 6], rows[0].token_ids)
    torch.testing.assert_close(torch.tensor(rows[0].logprobs), expected, atol=1e-4, rtol=0)


def test_bfloat16_rounds_about_as_the_model_does():
    model = made(KINDS["wide heads"]()).to(torch.bfloat16)
    for prompt, row in zip(PROMPTS, written(model, Sampling(max_tokens=20), counts=[1] * 4), strict=True):
        gap = torch.tensor(row.logprobs) - own(model.float(), prompt, row.token_ids)
        model.to(torch.bfloat16)
        assert gap.abs().mean() < 0.1


@pytest.mark.parametrize(
    ("config", "what"),
    [
        (Qwen3MoeConfig(**SHAPE, head_dim=16, num_experts=2, num_experts_per_tok=1), "Qwen3MoeForCausalLM"),
        (MistralConfig(**SHAPE, sliding_window=4), "sliding_window"),
        (Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=4, max_window_layers=1), "sliding_attention"),
        (LlamaConfig(**SHAPE, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}), "dynamic"),
    ],
)
def test_what_it_would_not_compute_it_does_not_take(config, what):
    assert what in not_decoded(made(config))


def test_a_layer_of_another_kind_is_not_taken():
    model = LlamaForCausalLM(LlamaConfig(**SHAPE))

    class Adapted(torch.nn.Linear):
        pass

    model.model.layers[1].mlp.up_proj = Adapted(48, 80, bias=False)
    assert "layers.1.mlp.up_proj is a Adapted" in not_decoded(model)


def test_other_models_are_written_by_generate_and_that_is_said_once(tmp_path, caplog):
    folder = tiny_checkpoint(tmp_path, "qwen3_moe")
    settings = EngineSettings(kind="transformers", dtype="float32", max_model_len=64)
    transformers._say_slow.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            with open_engine(settings, folder) as engine:
                (group,) = engine.generate([[5, 6, 7]], 2, Sampling(max_tokens=6, seed=1))
    assert [record.message for record in caplog.records if "several times slower" in record.message] == [
        "The engine 'transformers' writes this model with `generate`, several times slower than Llama, Mistral, Qwen2, "
        "Qwen3: it is a Qwen3MoeForCausalLM."
    ]
    model = Auto.from_pretrained(folder, dtype=torch.float32)
    for completion in group:
        expected = own(model, [5, 6, 7], completion.token_ids)
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(max_tokens=1), [0.5, 0.0, 0.25, 0.15, 0.1]),
        (Sampling(max_tokens=1, top_p=0.6), [2 / 3, 0.0, 1 / 3, 0.0, 0.0]),
        (Sampling(max_tokens=1, temperature=0.5), [0.7247, 0.0, 0.1812, 0.0652, 0.0290]),
        (Sampling(max_tokens=1, temperature=0), [1.0, 0.0, 0.0, 0.0, 0.0]),
    ],
    ids=["plain", "top_p", "temperature", "greedy"],
)
def test_tokens_are_drawn_as_often_as_their_probability_says(sampling, expected):
    rows = 40_000
    logits = torch.tensor([0.5, 0.0, 0.25, 0.15, 0.1]).log().repeat(rows, 1)
    tokens, logprobs = draw(logits, sampling, torch.Generator().manual_seed(0))
    shares = tokens.bincount(minlength=5) / rows
    torch.testing.assert_close(shares, torch.tensor(expected), atol=0.01, rtol=0)
    assert set(tokens.unique().tolist()) == {place for place, share in enumerate(expected) if share}
    drawn = torch.tensor(expected)[tokens].log()
    if sampling.temperature:
        torch.testing.assert_close(logprobs, drawn, atol=1e-3, rtol=0)
    else:
        assert logprobs[0].item() == pytest.approx(-0.6931, abs=1e-3)  # the model's own


def test_a_token_of_no_probability_is_never_drawn_not_at_the_very_end():
    """Sums of many float32 numbers miss 1 by more than a random number's last digit."""
    logits = torch.full((5_000, 3_000), 0.0)
    logits[:, -1_000:] = float("-inf")
    tokens, logprobs = draw(logits, Sampling(max_tokens=1), torch.Generator().manual_seed(2))
    assert tokens.max() < 2_000 and logprobs.isfinite().all()
