"""vLLM taking over what is no plain dense model: LoRA adapters as adapters, and experts."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from pipeline.config.lora import LoRASettings
from pipeline.core.buffers import kept_tensors, persistent_buffers
from pipeline.engines import EngineSettings, Sampling, open_engine
from pipeline.training.lora import checkpoint_model, peft_config, settle_adapters
from tests.pipeline.engines.tiny import tiny_checkpoint


def widest_gap(model, engine) -> float:
    """Largest difference between the engine's log-probabilities and those of a forward pass."""
    ids = engine.encode("What is 2 + 3 ?")
    gaps = []
    for completion in engine.generate([ids], 4, Sampling(max_tokens=20, seed=0))[0]:
        with torch.no_grad():
            logits = model(torch.tensor([ids + completion.token_ids])).logits[0, len(ids) - 1 : -1]
        expected = logits.log_softmax(-1).gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
        gaps.append((expected - torch.tensor(completion.logprobs)).abs().max().item())
    return max(gaps)


def test_each_sync_takes_the_place_of_the_one_before(tmp_path):
    folder = tiny_checkpoint(tmp_path, "qwen3")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    settings = EngineSettings(kind="vllm", dtype="float32", max_model_len=128, kv_cache_gib=1)
    with open_engine(settings, folder, adapter_rank=4) as engine:
        engine.sync_weights(adapted)  # adapters start at zero
        untrained = engine.generate(["a"], 1, Sampling(max_tokens=8, temperature=0))
        for _ in range(2):
            for name, parameter in adapted.named_parameters():
                if "lora_" in name:
                    torch.nn.init.normal_(parameter, std=0.3)
            engine.sync_weights(adapted)
            assert widest_gap(adapted, engine) < 1e-3
        assert engine.generate(["a"], 1, Sampling(max_tokens=8, temperature=0)) != untrained
        with pytest.raises(NotImplementedError, match="adapter_rank=4 takes over LoRA adapters"):
            engine.sync_weights(AutoModelForCausalLM.from_pretrained(folder))


@pytest.mark.parametrize("architecture", ["qwen3_moe", "deepseek_v3"])
def test_experts_are_synced(tmp_path, architecture):
    """vLLM packs experts at load; after a sync it must use the new ones, and the new biases of routers."""
    folder = tiny_checkpoint(tmp_path, architecture)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    settings = {"dtype": "float32", "max_model_len": 128}
    for kind, own in (("vllm", {"kv_cache_gib": 1, "latent_cache": False}), ("transformers", {})):
        moved = copy.deepcopy(model)
        with open_engine(EngineSettings(kind=kind, **settings, **own), folder) as engine:
            assert widest_gap(moved, engine) < 1e-3
            for tensor in kept_tensors(moved).values():
                tensor.data.mul_(1.3).add_(0.02 * torch.randn_like(tensor))
            for _, bias in persistent_buffers(moved):
                bias.add_(torch.randn_like(bias))
            engine.sync_weights(moved)
            assert widest_gap(moved, engine) < 1e-3


def test_only_vllm_takes_over_adapters():
    with pytest.raises(ValueError, match="the engine 'transformers' takes over merged weights alone"):
        open_engine(EngineSettings(kind="transformers", max_model_len=128), "unused", adapter_rank=4)


@pytest.mark.parametrize(
    ("architecture", "target"),
    [
        ("qwen3_moe", "all-linear"),
        ("qwen3_moe", ["gate_proj", "up_proj", "down_proj"]),
        ("qwen3_moe", ["down_proj"]),
        ("qwen3_moe", ["gate"]),
        ("deepseek_v3", "all-linear"),
    ],
    ids=str,
)
def test_experts_with_adapters_are_synced_as_they_are_trained(tmp_path, architecture, target):
    """The two tensors of the experts have an adapter each, one around the other."""
    folder = tiny_checkpoint(tmp_path, architecture)
    settings = LoRASettings(rank=4, target_modules=target)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), peft_config(settings))
    settle_adapters(adapted, settings)
    names = [name for name, _ in adapted.named_parameters() if "lora_A" in name]
    assert any(".gate." in name for name in names) == (target == ["gate"])
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    before = {name: parameter.clone() for name, parameter in adapted.named_parameters()}
    served = EngineSettings(kind="vllm", dtype="float32", max_model_len=128, kv_cache_gib=1, latent_cache=False)
    with open_engine(served, folder) as engine:
        engine.sync_weights(adapted)
        assert widest_gap(adapted, engine) < 1e-3
    assert all(torch.equal(before[name], parameter) for name, parameter in adapted.named_parameters())
    ids = torch.arange(20, 60)[None]
    with torch.no_grad():
        trained = adapted(ids).logits
        merged = checkpoint_model(adapted, "float32")
        torch.testing.assert_close(merged(ids).logits, trained, rtol=1e-4, atol=1e-4)
