"""Training and rollouts in block-wise FP8."""

import copy

import pytest
import torch
from torch.nn.functional import linear

from data_recipes.pocket.bases import base_folder
from pipeline.config.lora import LoRASettings
from pipeline.config.sft import SFTSettings
from pipeline.core.errors import ConfigError
from pipeline.core.fp8 import rounded
from pipeline.training.fp8 import FP8Linear, train_in_fp8, weights_in_fp8
from tests.pipeline.training.grpo.runs import metrics, run, settings
from tests.pipeline.training.test_sft import fine_tune, tokenizer  # noqa: F401


@pytest.fixture(scope="module")
def model():
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_folder("student-qwen"), dtype=torch.float32)


def test_the_three_products_of_a_linear_layer_take_rounded_operands():
    torch.manual_seed(0)
    layer = FP8Linear(200, 150)
    x = torch.randn(3, 70, 200, requires_grad=True)
    grad = torch.randn(3, 70, 150)
    layer(x).backward(grad)
    flat, up = x.detach().reshape(-1, 200), grad.reshape(-1, 150)
    seen, weight = rounded(flat, 1), rounded(layer.weight.detach())
    assert torch.equal(layer(x).detach(), linear(seen, weight).view(3, 70, 150) + layer.bias.detach())
    assert torch.equal(x.grad, (rounded(up, 1) @ weight).view(3, 70, 200))
    assert torch.equal(layer.weight.grad, rounded(up, 128, 1).T @ rounded(seen, 128, 1))
    assert torch.allclose(layer.bias.grad, up.sum(0), atol=1e-5)


def test_embeddings_head_and_norms_keep_their_precision(model):
    changed = copy.deepcopy(model)
    train_in_fp8(changed)
    others = {name for name, module in changed.named_modules() if isinstance(module, FP8Linear)}
    assert len(others) == 7 * model.config.num_hidden_layers
    assert all(".layers." in name for name in others)
    assert changed.state_dict().keys() == model.state_dict().keys()
    with pytest.raises(ConfigError, match="no linear layers"):
        train_in_fp8(type("Odd", (torch.nn.Linear,), {"get_decoder": lambda self: self})(2, 2))


def test_weights_are_rounded_meanwhile_and_come_back_bit_for_bit(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    name = "model.layers.0.mlp.down_proj.weight"
    with weights_in_fp8(model):
        assert torch.equal(model.state_dict()[name], rounded(before[name]))
        assert torch.equal(model.get_input_embeddings().weight, before["model.embed_tokens.weight"])
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())


def test_the_engine_samples_from_rounded_weights_and_training_keeps_its_own(start, engine, tmp_path):
    plain = settings(max_steps=2, learning_rate=1e-30)
    run(start, engine, tmp_path / "plain", plain)
    run(start, engine, tmp_path / "fp8", settings(max_steps=2, learning_rate=1e-30, fp8_rollouts=True))
    gaps = {name: max(step["sampler_gap"] for step in metrics(tmp_path / name)) for name in ("plain", "fp8")}
    assert gaps["plain"] < 1e-4 < 1e-3 < gaps["fp8"]


def test_sft_in_fp8_learns_as_sft_does(tokenizer, tmp_path):  # noqa: F811
    results = [fine_tune(tokenizer, tmp_path / str(fp8), fp8=fp8) for fp8 in (False, True)]
    plain, fp8 = (result.final_loss for result in results)
    assert plain != fp8
    assert fp8 == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: SFTSettings(fp8=True, lora=LoRASettings()),
        lambda: settings(fp8_rollouts=True, lora=LoRASettings().model_dump()),
        lambda: settings(fp8_rollouts=True, sampler_correction=None),
    ],
)
def test_what_fp8_does_not_go_with_is_refused(wrong):
    with pytest.raises(ValueError, match="fp8"):
        wrong()
