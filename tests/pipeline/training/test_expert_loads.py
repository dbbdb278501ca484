"""Experts in training: what is counted, how biases move, and that every copy of the model has the same ones."""

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from data_recipes.pocket.bases import base_folder
from data_recipes.pocket.corpus import CorpusSettings, documents
from pipeline.config.experts import BalanceSettings
from pipeline.config.grpo import GRPOSettings
from pipeline.config.sft import SFTSettings
from pipeline.core.buffers import persistent_buffers
from pipeline.engines import EngineSettings, open_engine
from pipeline.models.pocket.pretrain import ArchitectureSettings, PretrainSettings, build_model, pretrain
from pipeline.models.routers import Routers, check_balance, load_figures, sequence_loss
from pipeline.training.best import BestWeights
from pipeline.training.lora import in_dtype
from pipeline.training.packed.attention import attach_packed_forward
from pipeline.training.packed.packing import Row, pack
from pipeline.training.sft import train_sft
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.runs import metrics, run, settings
from tests.pipeline.training.short_sft import fine_tune, fine_tune_in_two

BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"
RATE = 0.01


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("experts"), "deepseek_v3")


@pytest.fixture
def model(start):
    return AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)


def bias_in(folder):
    return load_file(folder / "model.safetensors")[BIAS]


def test_padding_is_not_counted_and_packing_changes_nothing(model):
    routers = Routers(model)
    rows = [list(range(5, 5 + length)) for length in (9, 4, 7)]
    ids = torch.tensor([row + [0] * (9 - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (9 - len(row)) for row in rows])
    model(input_ids=ids, attention_mask=mask)
    padded = routers.take()
    for row in rows:
        model(input_ids=torch.tensor([row]))
    assert torch.equal(padded, routers.take())
    assert padded.sum() == 2 * (9 + 4 + 7)

    attach_packed_forward(model, 1.0)
    one = [Row(row[:3], [*row[3:], 1], 0.0, None, False, group) for group, row in enumerate(rows)]
    model(packed=pack(one, True, torch.device("cpu")))  # nothing goes through for what the last token predicts
    assert torch.equal(padded, routers.take())


def test_passes_without_a_gradient_are_not_counted(model):
    routers = Routers(model)
    with torch.no_grad():
        model(input_ids=torch.tensor([[5, 6, 7]]))
    assert routers.take().sum() == 0


def test_a_bias_rises_where_the_load_is_below_the_mean_and_falls_above(model):
    routers, before = Routers(model), dict(persistent_buffers(model))[BIAS].clone()
    routers.balance(torch.tensor([[4, 0, 8, 3, 5, 4, 4, 4]]), RATE)
    moved = dict(persistent_buffers(model))[BIAS] - before
    torch.testing.assert_close(moved, RATE * torch.tensor([0.0, 1, -1, 1, -1, 0, 0, 0]))


def test_the_worst_layer_and_idle_experts_are_told():
    figures = load_figures(torch.tensor([[10, 10, 10, 10], [20, 19, 1, 0]]))
    assert figures == {"max_violation": 1.0, "idle_experts": 1, "max_violation_1": 0.0, "max_violation_2": 1.0}
    assert load_figures(torch.zeros(2, 4)) == {}


def test_repeated_steps_even_out_a_lopsided_router(model):
    gate = model.get_submodule("model.layers.1.mlp.gate")
    torch.manual_seed(0)
    hidden = torch.randn(4096, 64) + 1
    routers = Routers(model)

    def violation():
        gate(hidden)
        counts = routers.take()
        return load_figures(counts)["max_violation"], counts

    first, counts = violation()
    for _ in range(300):
        routers.balance(counts, RATE)
        last, counts = violation()
    assert last < min(0.3, first / 3)


def test_a_model_without_biases_is_refused(tmp_path):
    dense = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(tmp_path, "qwen3"))
    with pytest.raises(ValueError, match=r"balance\.bias_rate is 0\.01, but Qwen3ForCausalLM has no routers"):
        check_balance(Routers(dense), BalanceSettings(bias_rate=0.01), dense)


def imbalance(logits, top_k):
    """Equations 17 to 20 of arXiv 2412.19437 for one sequence, (tokens, experts), as they are written."""
    tokens, experts = logits.shape
    affinities = logits.sigmoid()
    total = 0.0
    for expert in range(experts):
        chosen = sum(expert in row.topk(top_k).indices for row in affinities)
        often = experts / (top_k * tokens) * chosen
        total = total + often * sum(row[expert] / row.sum() for row in affinities) / tokens
    return total


def test_the_sequence_loss_is_the_reports_for_each_sequence_packed_or_padded():
    torch.manual_seed(0)
    logits, prompts = torch.randn(13, 6, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 4, -1])
    members = torch.tensor([[1, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0, 1, 0, 0, 1]])  # the first two share a prefix
    found = sequence_loss(logits, 2, prompts, members)
    sequences = ([0, 1, 2, 5, 6, 7, 8], [0, 1, 2, 9, 10], [3, 4, 11])
    expected = torch.stack([imbalance(logits[places], 2) for places in sequences])
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(each.sum(), logits)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients)
    one_sided = torch.full((4, 6), -50.0).index_fill_(1, torch.tensor([0, 1]), 50.0)
    assert sequence_loss(one_sided, 2, torch.zeros(4, dtype=torch.long), torch.ones(1, 1)).item() == pytest.approx(3)


@pytest.mark.parametrize("shared", [False, True])
def test_the_sequence_loss_is_per_sequence_and_packing_changes_nothing(start, shared):
    heads = [[5, 6, 7]] * 3 if shared else [[5, 6, 7], [8, 9, 10], [11, 12, 13]]
    rows = [[*head, *tail] for head, tail in zip(heads, ([20, 21, 22, 1], [23, 1], [24, 25, 26, 27, 1]), strict=True)]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = (ids != 0).long()
    found = []
    for packed in (False, True):
        policy = AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32)
        routers = Routers(policy)
        routers.add_sequence_loss(1.0)
        if packed:
            attach_packed_forward(policy, 1.0)
            batch = [Row(row[:3], row[3:], 0.0, None, False, 0 if shared else n) for n, row in enumerate(rows)]
            scores, _ = policy(packed=pack(batch, True, torch.device("cpu")))
            (0.0 * scores.sum()).backward()
        else:
            (0.0 * policy(input_ids=ids, attention_mask=mask).logits.sum()).backward()
        found.append(
            (routers.take_sequence_loss(), {n: p.grad for n, p in policy.named_parameters() if p.grad is not None})
        )
    (padded, expected), (packed, gradients) = found
    torch.testing.assert_close(padded, packed, atol=1e-6, rtol=1e-6)
    assert padded[1] == 3  # one layer of experts
    gate = "model.layers.1.mlp.gate.weight"
    assert expected[gate].abs().max() > 1e-4
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", [GRPOSettings, SFTSettings])
def test_biases_do_not_move_beside_adapters(kind):
    with pytest.raises(ValueError, match="lora trains adapters of a base that stays as it is"):
        kind(balance={"bias_rate": 0.01}, lora={"rank": 4})


def test_bfloat16_leaves_biases_their_precision(model):
    bias = dict(persistent_buffers(model))[BIAS]
    bias.fill_(1.001)
    narrowed = dict(persistent_buffers(in_dtype(model, torch.bfloat16)))[BIAS]
    assert model.lm_head.weight.dtype == torch.bfloat16
    assert narrowed.dtype == torch.float32
    assert torch.equal(narrowed, torch.full_like(narrowed, 1.001))


def test_the_best_weights_are_kept_with_their_biases(model, tmp_path):
    bias = dict(persistent_buffers(model))[BIAS]
    best = BestWeights(tmp_path, 0)
    then = bias.clone()
    best.offer(1, 0.5, model)
    bias.add_(1)
    best.load_into(model)
    assert torch.equal(bias, then)


def test_training_evens_out_single_sequences(start, tmp_path):
    figures = []
    train_sft(
        model_path=start, tokenizer=AutoTokenizer.from_pretrained(start), prompts=["What is 1 + 1 ?"] * 8,
        responses=["It is 2 ."] * 8, output=tmp_path, seed=1, device="cpu", dtype="float32",
        settings=SFTSettings(
            epochs=4, learning_rate=1e-2, batch_size=4, rows_per_device=2, max_tokens=64,
            balance={"sequence_weight": 0.9},
        ),
        on_step=lambda step, steps, found: figures.append(found["sequence_imbalance"]),
    )  # fmt: skip
    assert 1 <= figures[-1] < figures[0] - 0.02


def test_sft_moves_biases_once_a_step_and_a_resumed_run_alike(start, tmp_path):
    figures = []
    balance = {"bias_rate": RATE}
    fine_tune(start, tmp_path / "whole", lambda step, steps, found: figures.append(found), balance=balance)
    moved = (bias_in(tmp_path / "whole" / "checkpoint") - bias_in(start)) / RATE
    assert moved.abs().max() > 0.5
    torch.testing.assert_close(moved, moved.round(), atol=1e-3, rtol=0)
    assert moved.abs().max() < 4.01  # four steps, of two passes each
    assert all(found["max_violation"] == found["max_violation_1"] > 0 for found in figures)
    fine_tune_in_two(start, tmp_path / "cut", balance=balance)
    whole, resumed = (load_file(tmp_path / name / "checkpoint/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in whole.items())  # experts, stored one by one, too


def test_a_base_is_pretrained_in_balance_and_says_how_it_routes(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(base_folder("teacher"))
    parts = {"experts": 4, "experts_per_token": 2, "groups": 2, "groups_per_token": 1, "expert_size": 32}
    shape = ArchitectureSettings(architecture="deepseek_v3", hidden_size=64, layers=2, heads=2, experts=parts)
    model, figures = build_model(shape, tokenizer, 0), []
    chosen = PretrainSettings(steps=3, documents_per_step=2, balance={"bias_rate": RATE})
    pretrain(model, tokenizer, documents(CorpusSettings(), 0), chosen, tmp_path / "base", figures.append)
    moved = bias_in(tmp_path / "base").abs().max() / RATE
    assert 0.9 < moved < 3.1  # three steps cannot cancel each other
    assert figures[-1]["max_violation"] > 0
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    assert (config["topk_method"], config["scoring_func"]) == ("noaux_tc", "sigmoid")


def test_rl_moves_biases_and_engine_and_reference_follow(start, tmp_path):
    chosen = settings(max_steps=2, beta=0.01, reference_refresh_steps=1, learning_rate=1e-6, balance={"bias_rate": 0.2})
    with open_engine(EngineSettings(kind="transformers", dtype="float32", max_model_len=128), start) as engine:
        run(start, engine, tmp_path, chosen)
    first, second = metrics(tmp_path)
    assert (bias_in(tmp_path / "checkpoint") - bias_in(start)).abs().max() > 0.1
    assert max(first["sampler_gap"], second["sampler_gap"]) < 1e-5  # the engine samples with the biases that train
    assert abs(second["kl"]) < 1e-6  # and the reference was refreshed with them
    assert second["max_violation"] > 0
