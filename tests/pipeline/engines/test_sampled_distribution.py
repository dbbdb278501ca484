"""What an engine samples from is the checkpoint it serves, and nothing of what else the checkpoint's files say."""

import itertools
import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pipeline.core.heads import HEAD, has_own_head, settle_head
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.engines.pool import EnginePool
from pipeline.engines.servers import ServerError
from pipeline.engines.weights import same_architecture
from tests.pipeline.engines.fake_server import FakeServer
from tests.pipeline.engines.tiny import tiny_checkpoint

SETTINGS = EngineSettings(kind="transformers", dtype="float32", max_model_len=256)


def say(folder, name="config.json", **values):
    file = folder / name
    told = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(told | values))


@torch.no_grad()
def gap(engine, folder, prompts=("abcdefgh" * 4, "hello")) -> float:
    """Largest difference between reported log-probabilities and the checkpoint's own."""
    model, worst = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval(), 0.0
    for prompt, group in zip(prompts, engine.generate(list(prompts), 4, Sampling(max_tokens=24, seed=3)), strict=True):
        start = engine.encode(prompt)
        for completion in group:
            rows = model(torch.tensor([start + completion.token_ids])).logits[0, len(start) - 1 : -1].log_softmax(-1)
            own = rows.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            worst = max(worst, (own - torch.tensor(completion.logprobs)).abs().max().item())
    return worst


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
        {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}},
        {"rms_norm_eps": 0.1},
        {"hidden_act": "gelu"},
        {"max_position_embeddings": 1024},
        {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
        {"a_setting_of_tomorrow": 3},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_engine_is_opened_anew_for_another_configuration(tmp_path, changes):
    first, second = tiny_checkpoint(tmp_path / "1", "qwen2", 1), tiny_checkpoint(tmp_path / "2", "qwen2", 2, **changes)
    assert not same_architecture(first, second)
    pool = EnginePool(SETTINGS)
    try:
        before = pool.serve(first, 0)
        engine = pool.serve(second, 0)
        assert engine is not before
        assert gap(engine, second) < 1e-3
    finally:
        pool.close()


def test_notes_that_change_no_answer_keep_the_engine(tmp_path):
    first, second = tiny_checkpoint(tmp_path / "1", "qwen2", 1), tiny_checkpoint(tmp_path / "2", "qwen2", 2)
    say(
        second,
        transformers_version="5.99",
        use_cache=False,
        attention_dropout=0.1,
        initializer_range=0.5,
        dtype="bfloat16",
    )
    assert same_architecture(first, second)


def test_a_head_of_its_own_is_found_whatever_the_configuration_says(tmp_path):
    tied, own = tiny_checkpoint(tmp_path / "1", "qwen2", 1), tiny_checkpoint(tmp_path / "2", "llama", 2)
    say(own, tie_word_embeddings=True)
    assert (has_own_head(tied), has_own_head(own)) == (False, True)
    other = tiny_checkpoint(tmp_path / "3", "llama", 3)
    say(other, tie_word_embeddings=True)
    weights = load_file(other / "model.safetensors")
    save_file({name: weights[name] for name in weights if name != HEAD}, other / "model.safetensors", {"format": "pt"})
    assert not has_own_head(other) and not same_architecture(own, other)
    with open_engine(SETTINGS, own) as engine:
        assert gap(engine, own) < 1e-3
    assert (settle_head(own), settle_head(own), settle_head(tied)) == (True, False, False)
    assert json.loads((own / "config.json").read_text())["tie_word_embeddings"] is False


@pytest.mark.parametrize(
    "told",
    [
        {"min_p": 0.9}, {"typical_p": 0.2}, {"epsilon_cutoff": 0.02}, {"eta_cutoff": 0.1}, {"repetition_penalty": 1.5},
        {"no_repeat_ngram_size": 2}, {"top_k": 1}, {"top_p": 0.1}, {"temperature": 0.1}, {"bad_words_ids": [[70]]},
        {"suppress_tokens": list(range(60, 90))}, {"exponential_decay_length_penalty": [1, 5.0]},
        {"min_new_tokens": 20}, {"forced_eos_token_id": 5}, {"sequence_bias": [[[70], 9.0]]},
    ],
    ids=lambda told: next(iter(told)),
)  # fmt: skip
def test_what_a_checkpoint_says_of_sampling_changes_no_sample(tmp_path, told):
    folder = tiny_checkpoint(tmp_path / "model", "qwen2", 1)
    with open_engine(SETTINGS, folder) as engine:
        neutral = engine.generate(["hello", "b"], 8, Sampling(max_tokens=12, seed=1))
    say(folder, "generation_config.json", do_sample=True, **told)
    with open_engine(SETTINGS, folder) as engine:
        assert engine.generate(["hello", "b"], 8, Sampling(max_tokens=12, seed=1)) == neutral


def served(checkpoint, server, **options):
    settings = EngineSettings(kind="vllm-server", max_model_len=64, server_urls=[server.url])
    return open_engine(settings, checkpoint, **options)


def test_servers_are_told_every_neutral_value_and_seeds_that_never_meet(tmp_path):
    server = FakeServer(50)
    with served(tiny_checkpoint(tmp_path / "model", "qwen2"), server) as engine:
        engine.generate([[5] * 3] * 5, 4, Sampling(max_tokens=4, seed=11))
    seeds = sorted(request["seed"] for request in server.requests)
    assert all(later - earlier >= 4 for earlier, later in itertools.pairwise(seeds))
    neutral = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    for request in server.requests:
        assert {**request, **neutral, "temperature": 1.0, "top_p": 1.0, "stop": [], "min_tokens": 0} == request


class Holding(FakeServer):
    """Says what it serves as vLLM does: a name, and where the model is from."""

    def __init__(self, name, root):
        super().__init__(50)
        handler = self._server.RequestHandlerClass
        handler.do_GET = lambda self: self._send(200, json.dumps({"data": [{"id": name, "root": root}]}))


def test_a_server_that_holds_another_model_is_refused(tmp_path, caplog):
    folder = tiny_checkpoint(tmp_path / "run" / "sft" / "checkpoint", "qwen2")
    other = tiny_checkpoint(tmp_path / "run" / "r1_zero" / "checkpoint", "qwen2")
    for name, root in (("policy", str(other)), ("policy", "/elsewhere/run/r1_zero/checkpoint"), ("a/b", "a/b")):
        with pytest.raises(ServerError, match="wrong model's name"):
            served(folder, Holding(name, root))
    for name, root in (("policy", str(folder)), (str(folder), "a/b"), ("policy", "/elsewhere/run/sft/checkpoint")):
        with served(folder, server := Holding(name, root)) as engine:
            engine.generate([[5]], 1, Sampling(max_tokens=4, seed=1))
        assert server.requests[0]["model"] == name
    with caplog.at_level(logging.WARNING), served(folder, FakeServer(50)):
        assert "served-name" in caplog.text
