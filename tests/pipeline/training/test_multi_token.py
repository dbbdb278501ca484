"""Multi-token prediction: what the module computes, that it trains, and that it is nowhere lost."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_layers import MtpModel

from data_recipes.pocket.bases import base_folder
from data_recipes.pocket.corpus import CorpusSettings, documents
from pipeline.config.grpo import GRPOSettings
from pipeline.config.sft import SFTSettings
from pipeline.core.buffers import kept_tensors
from pipeline.core.causal_lm import held_modules, load_causal_lm, settle_multi_token
from pipeline.engines import EngineSettings, open_engine
from pipeline.models.pocket.pretrain import ArchitectureSettings, PretrainSettings, build_model, pretrain
from pipeline.models.surgery import cut_layers
from pipeline.training.flops import ModelFlops
from pipeline.training.lora import load_policy
from pipeline.training.packed.attention import attach_packed_forward
from pipeline.training.packed.packing import Row, pack
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.runs import metrics, run, settings
from tests.pipeline.training.short_sft import fine_tune, fine_tune_in_two

MODULE = "model.layers.2."
ROWS = [list(range(5, 5 + length)) for length in (9, 4, 7)]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("ahead"), "deepseek_v3", num_mtp_layers=1)


@pytest.fixture(scope="module")
def loaded(start):
    return load_causal_lm(start, dtype=torch.float32)


@pytest.fixture
def model(loaded):
    return copy.deepcopy(loaded)


def weights_of(folder: Path):
    return load_file(folder / "model.safetensors")


def module_of(folder: Path):
    return {name: tensor for name, tensor in weights_of(folder).items() if name.startswith(MODULE)}


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def test_files_have_the_published_names_and_the_main_model_is_unchanged(start, loaded):
    found = module_of(start)
    assert {f"{MODULE}{name}.weight" for name in ("enorm", "hnorm", "eh_proj", "shared_head.norm")} <= found.keys()
    assert f"{MODULE}mlp.experts.7.down_proj.weight" in found
    assert json.loads((start / "config.json").read_text())["num_nextn_predict_layers"] == 1
    stock = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)  # drops the module
    ids = torch.tensor(ROWS[:1])
    with torch.no_grad():
        assert torch.equal(stock(ids).logits, loaded(ids).logits)


def test_the_module_computes_what_transformers_own_does(start, model):
    stock = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
    stock._keys_to_ignore_on_load_unexpected = {r"model\.layers\.2.*"}  # how it finds the weights of its module
    ids = torch.tensor([[9, 12, 30, 41, 55, 60, 13]])
    positions = torch.arange(7)[None]
    with torch.no_grad():
        for each in (stock, model):
            each.model.embed_tokens.weight[12] = 0  # what stands behind the first position, where nothing is embedded
        theirs = MtpModel.from_pretrained(stock)
        hidden = stock.model(ids).last_hidden_state[:, :-1]
        _, expected, _ = theirs(ids[:, 1:], hidden, torch.ones(1, 6), positions[:, 1:], None)
        found = model.lm_head(model.ahead(hidden, ids[:, 1:], positions[:, :-1], None))[:, -1:]
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("shared", [False, True])
def test_packed_and_padded_passes_give_one_loss_and_one_gradient(model, shared):
    rows = [[*ROWS[0][:3], *tail] for tail in ([20, 21, 22, 1], [23, 1], [1])] if shared else ROWS
    ids, mask = padded(rows)
    labels = torch.where(mask.bool() & (torch.arange(ids.shape[1]) >= 3), ids, -100)
    _, expected = model.losses(ids, mask, labels, 1.0)
    expected.backward()
    gradients = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    attach_packed_forward(model, 1.0)
    one = [Row(row[:3], row[3:], 0.0, None, False, 0 if shared else group) for group, row in enumerate(rows)]
    *_, further = model(packed=pack(one, True, torch.device("cpu")), ahead=True)
    torch.testing.assert_close(-further.sum(), expected)
    (-further.sum()).backward()
    for name, weight in model.named_parameters():
        if name in gradients:
            torch.testing.assert_close(weight.grad, gradients[name], atol=1e-5, rtol=1e-4, msg=name)


def test_detached_only_the_module_has_a_gradient(model):
    attach_packed_forward(model, 1.0)
    rows = [Row(ROWS[0][:3], ROWS[0][3:], 0.0, None, False, 0)]
    *_, further = model(packed=pack(rows, True, torch.device("cpu")), ahead=True, detached=True)
    further.sum().backward()
    reached = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    assert reached and all(name.startswith(MODULE) for name in reached)


def test_a_position_sees_its_own_past_and_the_next_token(model):
    ids, _ = padded(ROWS[:1])
    positions = torch.arange(9)[None]

    def states(ids, length):
        hidden = model.model(ids[:, :length]).last_hidden_state
        return model.ahead(hidden, ids[:, 1 : length + 1], positions[:, :length], None)

    with torch.no_grad():
        torch.testing.assert_close(states(ids, 8)[:, :5], states(ids, 5), atol=1e-6, rtol=1e-5)
        other = ids.clone()
        other[0, 5] = 99
        assert not torch.allclose(states(ids, 5)[:, 4], states(other, 5)[:, 4])


def test_a_checkpoint_that_has_none_is_loaded_as_before_whatever_its_configuration_says(tmp_path):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_nextn_predict_layers": 1}))
    assert held_modules(folder) == 0
    with pytest.raises(
        ValueError, match=r"mtp_weight is 0\.1, but the checkpoint of this DeepseekV3ForCausalLM has no"
    ):
        settle_multi_token(load_causal_lm(folder), 0.1)


def test_layers_are_cut_and_the_module_stays(start, tmp_path):
    folder = tiny_checkpoint(tmp_path, "deepseek_v3", num_mtp_layers=1, num_hidden_layers=3)
    before = weights_of(folder)
    cut_layers(folder, "0,2")
    after = weights_of(folder)
    assert torch.equal(after[f"{MODULE}eh_proj.weight"], before["model.layers.3.eh_proj.weight"])
    assert torch.equal(after["model.layers.1.mlp.gate.weight"], before["model.layers.2.mlp.gate.weight"])
    assert held_modules(folder) == 1


def test_operations_of_a_module_count_where_it_trains(start):
    idle, trained = (ModelFlops(load_policy(start, None, "float32", mtp_weight=weight)) for weight in (0, 0.1))
    assert trained.body > 1.3 * idle.body


SHORT = {"weight_decay": 0.1, "balance": {"bias_rate": 0.01}}


def test_sft_trains_the_module_and_a_resumed_run_ends_alike(start, tmp_path):
    figures = []
    fine_tune(start, tmp_path / "whole", lambda step, steps, found: figures.append(found), mtp_weight=0.3, **SHORT)
    before, after = module_of(start), module_of(tmp_path / "whole" / "checkpoint")
    assert before.keys() == after.keys()
    for name in ("eh_proj.weight", "enorm.weight", "hnorm.weight", "shared_head.norm.weight", "mlp.gate.weight"):
        assert not torch.equal(before[MODULE + name], after[MODULE + name]), name
    assert figures[-1]["mtp_loss"] < figures[0]["mtp_loss"]
    assert figures[-1]["max_violation_2"] > 0  # the module has a router of its own
    fine_tune_in_two(start, tmp_path / "cut", mtp_weight=0.3, **SHORT)
    resumed = weights_of(tmp_path / "cut" / "checkpoint")
    assert all(
        torch.equal(tensor, resumed[name]) for name, tensor in weights_of(tmp_path / "whole" / "checkpoint").items()
    )


def test_sft_without_its_loss_leaves_the_module_as_it_is(start, tmp_path):
    figures = []
    fine_tune(start, tmp_path, lambda step, steps, found: figures.append(found), **SHORT)
    before, after = module_of(start), module_of(tmp_path / "checkpoint")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert "max_violation_1" in figures[-1] and "max_violation_2" not in figures[-1]


@pytest.mark.parametrize("kind", [GRPOSettings, SFTSettings])
def test_the_module_does_not_train_beside_adapters(kind):
    with pytest.raises(ValueError, match=r"mtp_weight is 0\.3, but lora trains adapters"):
        kind(mtp_weight=0.3, lora={"rank": 4})


def test_in_rl_the_module_follows_and_the_policy_is_what_it_would_be(start, tmp_path):
    with open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=64), start) as engine:
        for weight in (0.0, 0.3):
            chosen = settings(max_steps=2, max_grad_norm=0.05, mtp_weight=weight, balance={"bias_rate": 0.01})
            run(start, engine, tmp_path / str(weight), chosen)
    without, beside = (weights_of(tmp_path / str(weight) / "checkpoint") for weight in (0.0, 0.3))
    module = {name for name in without if name.startswith(MODULE)}
    assert all(torch.equal(without[name], beside[name]) for name in without.keys() - module)
    before = module_of(start)
    assert all(torch.equal(before[name], without[name]) for name in module)
    for name in ("eh_proj.weight", "enorm.weight", "mlp.gate.weight", "mlp.gate.e_score_correction_bias"):
        assert not torch.equal(before[MODULE + name], beside[MODULE + name]), name
    first, second = metrics(tmp_path / "0.3")
    assert first["mtp_loss"] > 0 and second["mtp_loss"] > 0
    assert second["sampler_gap"] < 1e-5
    assert "mtp_loss" not in metrics(tmp_path / "0.0")[0]


def test_rollouts_with_drafts_tell_their_acceptance_and_the_policys_log_probabilities(start, tmp_path):
    chosen = EngineSettings(kind="transformers", dtype="float32", max_model_len=64, mtp_drafts=1)
    with open_engine(chosen, start) as engine:
        run(start, engine, tmp_path, settings(max_steps=2, mtp_weight=0.3))
    first, second = metrics(tmp_path)
    assert max(first["sampler_gap"], second["sampler_gap"]) < 1e-5
    assert 0 <= first["draft_acceptance"] <= 1 and 0 <= second["draft_acceptance"] <= 1


def test_rl_without_packing_refuses_the_modules_loss(start, tmp_path):
    chosen = settings(max_steps=1, mtp_weight=0.3, speedups={"packing": False, "share_prompts": False})
    with (
        open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=64), start) as engine,
        pytest.raises(ValueError, match="trains without packing"),
    ):
        run(start, engine, tmp_path, chosen)


def test_a_base_is_pretrained_with_a_module(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    parts = {"experts": 4, "experts_per_token": 2, "groups": 2, "groups_per_token": 1, "expert_size": 32}
    shape = ArchitectureSettings(
        architecture="deepseek_v3", hidden_size=64, layers=2, heads=2, experts=parts | {"mtp_modules": 1}
    )
    made, figures = build_model(shape, tokenizer, 0), []
    before = made.get_parameter(f"{MODULE}eh_proj.weight").clone()
    pretrain(
        made, tokenizer, documents(CorpusSettings(), 0), PretrainSettings(steps=2, documents_per_step=2),
        tmp_path / "base", figures.append,
    )  # fmt: skip
    assert figures[0]["mtp_loss"] > 0
    assert not torch.equal(before, weights_of(tmp_path / "base")[f"{MODULE}eh_proj.weight"])
    again = kept_tensors(load_causal_lm(tmp_path / "base", dtype=torch.float32))
    assert again.keys() == kept_tensors(made).keys()
    assert all(torch.equal(tensor, again[name]) for name, tensor in kept_tensors(made).items())
