"""Every speed-up gives the loss, the gradients and the optimizer step of stock TRL on the same batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file

from pipeline.config.grpo import GRPOSettings, SpeedUps
from tests.pipeline.engines.tiny import tiny_checkpoint
from tests.pipeline.training.grpo.cases import GROUP_SIZE, GROUPS, ONE_STEP, make_trainer, one_step, written

ALL = SpeedUps()
NONE = SpeedUps(
    packing=False,
    share_prompts=False,
    skip_zero_advantage=False,
    reuse_forward=False,
    score_while_generating=False,
)
ROWS = GROUPS * GROUP_SIZE


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(tiny_checkpoint(tmp_path_factory.mktemp("model"), "qwen3"))


def settings(**changes) -> GRPOSettings:
    return GRPOSettings.model_validate({**ONE_STEP, "learning_rate": 0.1} | changes)


def assert_same(ours: dict, stock: dict) -> None:
    assert ours["loss"] == pytest.approx(stock["loss"], rel=1e-5, abs=1e-7)
    assert ours["gradients"].keys() == stock["gradients"].keys()
    for part in ("gradients", "weights"):
        for name, expected in stock[part].items():
            error = (ours[part][name] - expected).norm()
            assert error <= 1e-5 * expected.norm() + 1e-9, f"{part} of {name} differ by {error / expected.norm():.1e}"


def compare(model, tmp_path, chosen: GRPOSettings, flat_groups=0, peft=False, stock_arguments=None, **arguments):
    cases = written(flat_groups)
    arguments = {"optim": "sgd"} | arguments
    ours, stock = (
        one_step(make_trainer(kind, model, tmp_path / kind, cases, chosen, _lora() if peft else None, **given))
        for kind, given in (("ours", arguments), ("stock", arguments | (stock_arguments or {})))
    )
    assert_same(ours, stock)
    return ours


def _lora() -> LoraConfig:
    return LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "bnpo"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
@pytest.mark.parametrize("speedups", [ALL, NONE], ids=["all", "none"])
def test_same_step_as_trl(model, tmp_path, loss_type, beta, speedups):
    compare(model, tmp_path, settings(loss_type=loss_type, beta=beta, speedups=speedups), flat_groups=3)


@pytest.mark.parametrize(
    "speedups",
    [
        SpeedUps(packing=True, share_prompts=False, skip_zero_advantage=False),
        SpeedUps(packing=True, share_prompts=True, skip_zero_advantage=False),
        SpeedUps(packing=False, share_prompts=False, skip_zero_advantage=True),
    ],
    ids=["packing", "packing+sharing", "skipping"],
)
def test_each_speedup_alone(model, tmp_path, speedups):
    compare(model, tmp_path, settings(speedups=speedups), flat_groups=2)


def test_old_logprobs_from_a_forward_of_their_own(model, tmp_path):
    compare(model, tmp_path, settings(loss_type="grpo", speedups=SpeedUps(reuse_forward=False)), flat_groups=2)


def test_importance_weighted_kl(model, tmp_path):
    compare(model, tmp_path, settings(beta=0.05, kl_importance_weighted=True))


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo", "bnpo"])
def test_k2_is_averaged_as_k3_is(model, tmp_path, loss_type):
    """Without rewards the loss is the KL term; near the reference k2 and k3 agree to first order."""
    chosen, losses = settings(loss_type=loss_type, beta=1.0), {}
    for estimator in ("k2", "k3"):
        trainer = make_trainer(
            "ours", model, tmp_path / estimator, written(GROUPS), chosen.model_copy(update={"kl_estimator": estimator})
        )
        losses[estimator] = one_step(trainer)["loss"][0]
    assert losses["k2"] == pytest.approx(losses["k3"], rel=0.2)


def test_k1_by_hand(model, tmp_path):
    chosen = settings(loss_type="bnpo", beta=1.0, kl_estimator="k1", max_tokens_per_microbatch=10_000)
    trainer = make_trainer("ours", model, tmp_path, written(GROUPS), chosen)
    seen = []
    original = trainer._loss_inputs
    trainer._loss_inputs = lambda *given: (seen.append(original(*given)), seen[-1])[1]
    loss = one_step(trainer)["loss"][0]
    (inputs,) = seen
    mask = inputs.mask.bool()
    assert loss == pytest.approx((inputs.logprobs.detach() - inputs.reference)[mask].mean().item(), rel=1e-4)


@pytest.mark.parametrize("mode", ["token_mask", "sequence_truncate", "sequence_mask", None])
def test_sampler_correction(model, tmp_path, mode):
    compare(model, tmp_path, settings(sampler_correction=mode, sampler_correction_max=1.1), flat_groups=1)


def test_sequence_level_ratio(model, tmp_path):
    compare(model, tmp_path, settings(importance_sampling_level="sequence", beta=0.05), flat_groups=1)


@pytest.mark.parametrize("loss_type", ["cispo", "sapo"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_other_losses(model, tmp_path, loss_type, beta):
    compare(model, tmp_path, settings(loss_type=loss_type, epsilon_high=5.0, beta=beta), flat_groups=1)


def test_luspo(model, tmp_path):
    chosen = settings(loss_type="luspo", importance_sampling_level="sequence", sampler_correction=None)
    compare(model, tmp_path, chosen, flat_groups=1)


@pytest.mark.parametrize("scale", ["batch", "none"])
def test_reward_scaling(model, tmp_path, scale):
    compare(model, tmp_path, settings(scale_rewards=scale))


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_truncated_completions_masked(model, tmp_path, loss_type, beta):
    compare(model, tmp_path, settings(loss_type=loss_type, beta=beta, mask_truncated=True), flat_groups=1)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_lora(model, tmp_path, loss_type, beta):
    ours = compare(model, tmp_path, settings(loss_type=loss_type, beta=beta), flat_groups=2, peft=True)
    assert all("lora" in name for name in ours["gradients"])


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_gradient_accumulation(model, tmp_path, loss_type):
    """Stock TRL in two micro-steps, ours in one step cut by tokens."""
    split = {
        "gradient_accumulation_steps": 2,
        "per_device_train_batch_size": ROWS // 2,
        "steps_per_generation": 2,
    }
    compare(model, tmp_path, settings(loss_type=loss_type), flat_groups=2, stock_arguments=split)
    compare(model, tmp_path / "both", settings(loss_type=loss_type), flat_groups=2, **split)


@pytest.mark.parametrize(
    "changes",
    [
        {"loss_type": "bnpo"},
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"importance_sampling_level": "sequence", "beta": 0.05},
    ],
    ids=["bnpo", "cispo", "gspo"],
)
def test_gradient_accumulation_of_other_losses(model, tmp_path, monkeypatch, changes):
    """Both in the same two micro-steps: bnpo's mean is by definition one over a micro-step's tokens."""
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    split = {"gradient_accumulation_steps": 2, "per_device_train_batch_size": ROWS // 2, "steps_per_generation": 2}
    compare(model, tmp_path, settings(**changes), flat_groups=2, **split)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo", "bnpo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_second_step_on_a_rollout(model, tmp_path, monkeypatch, loss_type, level):
    """Off-policy: the ratio to the policy that wrote the rollout, clipped, after a large first step."""
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))  # the same slices in both trainers
    two = {"prompts_per_step": GROUPS // 2, "rollout_prompts": GROUPS, "max_steps": 2, "checkpoint_every": 2}
    chosen = settings(loss_type=loss_type, importance_sampling_level=level, epsilon=0.02, **two)
    result = compare(model, tmp_path, chosen, flat_groups=1)
    assert len(result["loss"]) == 2


def test_second_step_of_cispo(model, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "randperm", lambda count, **_: torch.arange(count))
    two = {"prompts_per_step": GROUPS // 2, "rollout_prompts": GROUPS, "max_steps": 2, "checkpoint_every": 2}
    chosen = settings(loss_type="cispo", epsilon_high=1.02, **two)
    assert len(compare(model, tmp_path, chosen, flat_groups=1)["loss"]) == 2


def test_all_groups_flat(model, tmp_path):
    """No row trains: the optimizer still steps, on gradients of zero, and weight decay still acts."""
    compare(model, tmp_path, settings(weight_decay=0.1), flat_groups=GROUPS, optim="adamw_torch")


def test_adam_step(model, tmp_path):
    cases = written(flat_groups=1)
    chosen = settings(learning_rate=1e-3)
    results = [one_step(make_trainer(kind, model, tmp_path / kind, cases, chosen)) for kind in ("ours", "stock")]
    start = make_trainer("ours", model, tmp_path / "start", cases, chosen).model.state_dict()
    for name, expected in results[1]["weights"].items():
        moved = (expected - start[name]).norm()
        # Where a gradient is rounding noise Adam's first step is its sign, so elements may differ; the step may not.
        assert (results[0]["weights"][name] - expected).norm() <= 1e-3 * moved


def test_adam_step_where_no_gradient_is_noise(model, tmp_path):
    """With an epsilon above rounding noise Adam's step is as exact as the gradients."""
    compare(model, tmp_path, settings(learning_rate=1e-3), flat_groups=1, optim="adamw_torch", adam_epsilon=1e-3)


@pytest.mark.parametrize("architecture", ["qwen2", "llama", "qwen3_moe", "deepseek_v3"])
def test_other_architectures(tmp_path, architecture):
    folder = str(tiny_checkpoint(tmp_path / "model", architecture))
    compare(folder, tmp_path, settings(beta=0.05), flat_groups=1)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_two_processes(model, tmp_path, loss_type):
    """Two gloo processes, one of which has little left to train, against stock TRL on two processes."""
    jobs = [
        {
            "kind": kind,
            "name": kind,
            "model": model,
            "cases": written(flat_groups=3),
            "settings": settings(loss_type=loss_type, beta=0.0).model_dump(),
            "arguments": {"optim": "sgd"},
        }
        for kind in ("ours", "stock")
    ]
    ours, stock = _on_two_processes(jobs, tmp_path)
    assert ours["loss"].item() == pytest.approx(stock["loss"].item(), rel=1e-5, abs=1e-7)
    for name in stock.keys() - {"loss"}:
        assert (ours[name] - stock[name]).norm() <= 1e-5 * stock[name].norm() + 1e-9, name


def _on_two_processes(jobs: list[dict], folder: Path) -> list[dict[str, torch.Tensor]]:
    """What each job's step gives on two processes, that are launched once for all of them."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run(
        [sys.executable, *command, "tests.pipeline.training.grpo.cases", str(file)],
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=900,
    )
    return [load_file(folder / f"{job['name']}.safetensors") for job in jobs]
