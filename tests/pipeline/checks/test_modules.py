"""What multi-token prediction modules count for in parameters, memory and plans."""

from dataclasses import replace

import pytest
import torch
from peft import get_peft_model

from pipeline.checks.models import estimates
from pipeline.checks.plan import Layout, planned
from pipeline.config.engine import EngineSettings
from pipeline.config.loading import load_profile
from pipeline.config.lora import LoRASettings
from pipeline.core.buffers import kept_tensors, persistent_buffers
from pipeline.core.causal_lm import load_causal_lm, multi_token_modules, settle_multi_token
from pipeline.models import memory
from pipeline.models.accelerators import ACCELERATORS
from pipeline.models.model_shape import Experts, Latent, ModelShape
from pipeline.models.shapes import shape_of
from pipeline.models.sources import count_parameters
from pipeline.training.flops import ModelFlops
from pipeline.training.lora import peft_config
from pipeline.training.packed.attention import attach_packed_forward
from pipeline.training.packed.packing import Row, pack
from tests.pipeline.engines.tiny import tiny_checkpoint

DEEPSEEK_V3 = ModelShape(
    7168, 61, 128, 128, 192, 18432, 129280, False, 163840, experts=Experts(256, 8, 2048, shared=1, dense_layers=3),
    latent=Latent(512, 1536, 128, 64, 128), modules=1,
)  # fmt: skip


def test_a_multi_token_prediction_module_has_the_published_size():
    """As README_WEIGHTS.md of DeepSeek-V3 states them."""
    assert DEEPSEEK_V3.main.parameters / 1e9 == pytest.approx(671, rel=0.001)
    assert DEEPSEEK_V3.active_parameters / 1e9 == pytest.approx(36.7, rel=0.03)
    trained, projection = DEEPSEEK_V3.training_modules(0.1), 2 * 7168**2  # which its figures leave out
    assert (trained.module_parameters - projection) / 1e9 == pytest.approx(11.5, rel=0.002)
    assert (trained.ahead_parameters - projection) / 1e9 == pytest.approx(2.4 - 2 * 0.9, rel=0.05)


@pytest.mark.parametrize("dense", [1, 9], ids=["experts", "dense"])
def test_a_module_counts_with_what_is_stored_trained_and_computed(tmp_path, dense):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3", num_mtp_layers=1, first_k_dense_replace=dense)
    shape = shape_of(f"folder:{folder}")
    assert shape.modules == 1 and shape.parameters == count_parameters(folder)
    assert shape_of(f"cut:0,1:folder:{folder}") == shape
    for weight in (0.0, 0.3):
        model, trained = load_causal_lm(folder), shape.training_modules(weight)
        settle_multi_token(model, weight)
        still = sum(weights.numel() for weights in model.parameters() if not weights.requires_grad)
        biases = sum(buffer.numel() for _, buffer in persistent_buffers(multi_token_modules(model)[0]))
        assert trained.frozen_parameters == (still + biases if still else 0)
        norms = sum(p.numel() for p in kept_tensors(model).values() if p.ndim == 1)
        ahead = sum(p.numel() for p in kept_tensors(multi_token_modules(model)[0]).values() if p.ndim == 1)
        matrices = trained.body_parameters + trained.ahead_parameters + trained.hidden
        assert ModelFlops(model).body == 2 * (matrices - norms + (0 if weight else ahead))
    adapted = get_peft_model(load_causal_lm(folder), peft_config(LoRASettings(rank=2)))
    named = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    last, module = ([name for name in named if f"layers.{layer}." in name] for layer in (1, 2))
    assert len(module) == len(last) + 2  # those of its projection
    _, *further = shape.linear_shapes[len(shape.main.linear_shapes) :]
    assert len(further) == len(shape.main.linear_shapes) - len(replace(shape.main, layers=1).linear_shapes)
    assert further[-1] == (2 * shape.hidden, shape.hidden)


def estimated(folder, what, *changes):
    profile = load_profile("pocket", [f"stages.base_model.teacher=folder:{folder}", *changes]).profile
    return {stage: estimate for role, stage, _, estimate in estimates(profile, what) if role == "teacher"}


def test_memory_counts_a_module_where_it_lies_and_trains(tmp_path):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3", num_mtp_layers=1)
    shape, cpu = shape_of(f"folder:{folder}"), memory.Device("cpu", 1, 2**33)
    module, main = shape.module_parameters, shape.main.parameters
    idle = estimated(folder, cpu)
    weights = {f"stages.{stage}": section for stage, section in (("r1_zero", "grpo"), ("sft", "sft"))}
    trained = estimated(folder, cpu, *(f"{key}.{section}.mtp_weight=0.3" for key, section in weights.items()))
    for stage in ("r1_zero", "sft"):
        assert idle[stage].weights == memory.TRAINED_BYTES * main + 4 * module
        assert trained[stage].weights == memory.TRAINED_BYTES * (main + module)
        assert trained[stage].activations > idle[stage].activations
    assert trained["reasoning_rl"] == idle["reasoning_rl"]
    assert idle["reward_model"].weights == memory.TRAINED_BYTES * main  # a model for classification, which has none
    without, written, drafted = (
        estimated(folder, cpu, f"engine={{kind: {kind}, dtype: float32, max_model_len: 256}}")["r1_zero"].engine
        for kind in ("vllm", "transformers", "transformers, mtp_drafts: 1")
    )
    settings = EngineSettings(kind="vllm", max_model_len=256)
    token, slots = 4 * shape.cached_numbers(), 256 * settings.max_sequences
    assert written == 4 * (main + module) + slots * token
    assert drafted == 4 * (main + module) + 2 * slots * token * (shape.layers + 1) / shape.layers
    assert without == 4 * main + settings.cache_bytes(token)


@pytest.mark.parametrize("dense", [1, 9], ids=["experts", "dense"])
def test_a_module_keeps_for_the_backward_pass_what_a_layer_does_and_its_estimate_holds(tmp_path, dense):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3", num_mtp_layers=1, first_k_dense_replace=dense)
    model, shape, tokens = load_causal_lm(folder), shape_of(f"folder:{folder}"), 200
    attach_packed_forward(model, 1.0)
    row = Row([5], [6] * (tokens - 1), advantage=0.0, sampler_logprobs=None, truncated=False, group=0)
    batch = pack([row], False, "cpu")
    alone, both = (kept_bytes(model, batch, ahead=ahead) for ahead in (False, True))
    idle, trained = (
        memory.activation_bytes(shape.training_modules(weight), tokens, "float32", False) for weight in (0, 0.1)
    )
    assert 0.5 * (trained - idle) < both - alone < trained - idle


def kept_bytes(model, batch, **options) -> int:
    """Bytes of what a forward pass keeps for the backward pass besides weights."""
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(packed=batch, **options)
    return sum(storage.nbytes() for storage in kept.values())


def test_a_plan_counts_what_a_module_takes_in_updates_and_at_each_sync(tmp_path):
    plain, ahead = (
        tiny_checkpoint(tmp_path / str(modules), "deepseek_v3", num_mtp_layers=modules) for modules in (0, 1)
    )
    made = []
    for folder, weight in ((plain, 0.0), (ahead, 0.0), (ahead, 0.3)):
        changes = [f"stages.base_model.teacher=folder:{folder}", f"stages.r1_zero.grpo.mtp_weight={weight}"]
        profile = load_profile("pocket", changes).profile
        plan = planned(profile, ACCELERATORS["h100"], Layout(2, profile.parallel, 1))
        made.append(next(stage for stage in plan.stages if stage.stage == "r1_zero"))
    without, idle, trained = made
    assert without.write == idle.write == trained.write
    assert without.server_memory == idle.server_memory == trained.server_memory
    assert without.update == idle.update < trained.update
    assert without.sync < idle.sync == trained.sync
    names = ("weights, gradients, optimizer", "activations, gathered layers")
    weights, activations = ([stage.memory[name] for stage in made] for name in names)
    assert weights[0] < weights[1] < weights[2]
    assert activations[0] == activations[1] < activations[2]
