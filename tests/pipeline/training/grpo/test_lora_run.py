"""GRPO on adapters: what is trained is what is sampled and saved."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from pipeline.config.lora import LoRASettings
from tests.pipeline.training.grpo.runs import metrics, run, settings, weights_of


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_lora_run_saves_a_plain_merged_checkpoint_and_resumes(start, engine, tmp_path, quantize):
    chosen = {"beta": 0.01, "reference_refresh_steps": 2, "learning_rate": 0.05}
    chosen["lora"] = LoRASettings(rank=4, quantize=quantize)
    run(start, engine, tmp_path / "whole", settings(max_steps=4, **chosen))
    run(start, engine, tmp_path / "two", settings(max_steps=2, **chosen))
    run(start, engine, tmp_path / "two", settings(max_steps=4, **chosen), resume=True)
    expected = weights_of(tmp_path / "whole" / "checkpoint")
    assert expected.keys() == weights_of(start).keys()
    for name, weight in weights_of(tmp_path / "two" / "checkpoint").items():
        assert torch.allclose(weight, expected[name], atol=1e-6), name
    assert any(not torch.equal(w, weights_of(start)[n]) for n, w in expected.items())


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_an_adapter_policy_is_sampled_with_the_weights_it_trains(start, engine, tmp_path, quantize):
    lora = LoRASettings(rank=4, quantize=quantize)
    run(start, engine, tmp_path, settings(max_steps=3, learning_rate=0.02, lora=lora))
    assert all(line["sampler_gap_max"] < (1e-3 if quantize == "none" else 0.05) for line in metrics(tmp_path))


def test_the_saved_adapter_on_the_start_model_is_the_saved_checkpoint(start, engine, tmp_path):
    run(start, engine, tmp_path, settings(max_steps=2, learning_rate=0.05, lora=LoRASettings(rank=4)))
    base = AutoModelForCausalLM.from_pretrained(start)
    merged = PeftModel.from_pretrained(base, tmp_path / "adapter").merge_and_unload()
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint")
    for (name, one), (_, other) in zip(merged.named_parameters(), saved.named_parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6), name


def test_dropout_in_rl_adapters_is_refused():
    with pytest.raises(ValueError, match=r"set lora\.dropout to 0"):
        settings(lora=LoRASettings(dropout=0.1))
