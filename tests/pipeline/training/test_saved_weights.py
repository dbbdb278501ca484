"""A checkpoint is the policy that was trained, in the precision that this takes."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pipeline.config.grpo import GRPOSettings
from pipeline.config.lora import LoRASettings
from pipeline.core.tokens import load_tokenizer
from pipeline.engines import EngineSettings, open_engine
from pipeline.training.grpo.run import train_grpo
from pipeline.training.lora import checkpoint_model, dropouts, load_policy
from pipeline.training.trainer_io import stored_dtype
from tests.pipeline.engines.tiny import tiny_checkpoint


def adapted(folder, size: float, dtype=torch.bfloat16):
    """A frozen base in `dtype` with adapters whose updates are about `size` of a weight."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=4, target_modules="all-linear"))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            parameter.data = size * torch.randn_like(parameter)
    return model


def update_error(model, start, saved) -> float:
    """How far the saved weights are from base plus adapters, against the size of what the adapters add."""
    error = size = 0.0
    for name, module in model.get_base_model().named_modules():
        if hasattr(module, "get_delta_weight"):
            update = module.get_delta_weight("default").detach().float()
            got = saved[f"{name}.weight"].float() - start[f"{name}.weight"].float()
            error, size = error + (got - update).square().sum().item(), size + update.square().sum().item()
    return (error / size) ** 0.5


@pytest.mark.parametrize(("size", "kept"), [(3e-4, torch.float32), (1.0, torch.bfloat16)])
def test_merged_adapters_keep_what_they_learned(tmp_path, size, kept, caplog):
    caplog.set_level("INFO")
    folder = tiny_checkpoint(tmp_path / "base", "qwen2")
    start = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    model, same = adapted(folder, size), adapted(folder, size)
    merged = checkpoint_model(model, "bfloat16")
    assert {parameter.dtype for parameter in merged.parameters()} == {kept}
    assert update_error(same, start, merged.state_dict()) < 0.05
    assert "of what they learned" in caplog.text


def grpo(base, output, dtype, **settings):
    tokenizer = load_tokenizer(base)
    with open_engine(EngineSettings(kind="transformers", dtype=dtype, max_model_len=64), base, tokenizer, 0) as engine:
        train_grpo(
            model_path=base,
            tokenizer=tokenizer,
            dataset=[{"prompt": f"{n}?"} for n in range(4)],
            settings=GRPOSettings(
                prompts_per_step=2, group_size=2, rollout_prompts=None, max_steps=1, learning_rate=1e-3, beta=0.0,
                max_completion_tokens=4, max_completion_schedule=[], **settings,
            ),
            engine=engine,
            reward_functions=[lambda completions, **_: [float(number % 2) for number in range(len(completions))]],
            reward_weights=[1.0],
            output_dir=output,
            seed=0,
            dtype=dtype,
        )  # fmt: skip
    return load_file(output / "checkpoint" / "model.safetensors")


@pytest.mark.parametrize("stored", ["bfloat16", "float32"])
def test_rl_saves_the_dtype_that_it_started_from(tmp_path, stored):
    base = tiny_checkpoint(tmp_path / "base", "qwen2", dtype=stored)
    AutoModelForCausalLM.from_pretrained(base, dtype=getattr(torch, stored)).save_pretrained(base)
    assert stored_dtype(base) == stored
    saved = grpo(base, tmp_path / "rl", "bfloat16")
    assert {str(tensor.dtype) for tensor in saved.values()} == {f"torch.{stored}"}
    assert json.loads((tmp_path / "rl" / "checkpoint" / "config.json").read_text())["dtype"] == stored


def test_rl_with_adapters_on_a_bfloat16_base_saves_what_was_trained(tmp_path):
    base = tiny_checkpoint(tmp_path / "base", "qwen2")
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(base)
    saved = grpo(base, tmp_path / "rl", "bfloat16", lora=LoRASettings(rank=4))
    start = load_file(base / "model.safetensors")
    adapter = load_file(tmp_path / "rl" / "adapter" / "adapter_model.safetensors")
    scale = json.loads((tmp_path / "rl" / "adapter" / "adapter_config.json").read_text())["lora_alpha"] / 4
    error = size = 0.0
    for name in (name for name in adapter if "lora_A" in name):
        update = scale * adapter[name.replace("lora_A", "lora_B")].float() @ adapter[name].float()
        plain = name.removeprefix("base_model.model.").replace(".lora_A", "")
        got = saved[plain].float() - start[plain].float()
        error, size = error + (got - update).square().sum(), size + update.square().sum()
    assert size > 0 and error.sqrt() <= 0.05 * size.sqrt()


def test_rl_switches_off_what_a_base_drops_at_random(tmp_path):
    base = tiny_checkpoint(tmp_path / "base", "qwen2", attention_dropout=0.5)
    assert dropouts(base) == {"attention_dropout": 0.5}
    ids = torch.arange(40)[None]
    model = load_policy(base, None, "float32", dropout=False).train()
    assert torch.equal(model(ids).logits, model(ids).logits)
    dropping = load_policy(base, None, "float32").train()
    assert not torch.equal(dropping(ids).logits, dropping(ids).logits)
