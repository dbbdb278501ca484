"""SFT and reward-model training on tiny models: what is learned, resumed, saved."""

import contextlib
import json

import pytest
import torch
from safetensors.torch import load_file

from data_recipes.pocket.bases import base_folder
from pipeline.config.lora import LoRASettings
from pipeline.config.reward_model import RewardTraining
from pipeline.config.sft import SFTSettings
from pipeline.training.checkpoints import last_checkpoint
from pipeline.training.reward_model import train_reward_model
from pipeline.training.row_order import RowOrder
from pipeline.training.sft import train_sft
from tests.pipeline.interrupts import interrupts_heeded, press
from tests.pipeline.training.short_sft import Cut

PROMPTS = ["User: What is 1+1+1? Assistant:", "User: Who are you? Assistant:"] * 8
RESPONSES = ["<think>First 1+1=2.</think>The answer is 3.", "<think>Me.</think>I am Pocket."] * 8


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_folder("student-qwen"))


def fine_tune(tokenizer, output, rows=None, dtype="float32", on_step=lambda *_: None, **settings):
    prompts, responses = (PROMPTS, RESPONSES) if rows is None else zip(*rows, strict=True)
    return train_sft(
        model_path=base_folder("student-qwen"),
        tokenizer=tokenizer,
        prompts=prompts,
        responses=responses,
        settings=SFTSettings(
            **{"epochs": 4, "learning_rate": 2e-3, "batch_size": 4, "rows_per_device": 2, "max_tokens": 64} | settings
        ),
        output=output,
        seed=1,
        device="cpu",
        dtype=dtype,
        on_step=on_step,
        resume_from=last_checkpoint(output / "trainer"),
    )


def weights(folder):
    from safetensors.torch import load_file

    return load_file(folder / "checkpoint" / "model.safetensors")


def test_the_loss_falls_and_tokens_are_counted(tokenizer, tmp_path):
    losses = []
    result = fine_tune(tokenizer, tmp_path, on_step=lambda step, steps, figures: losses.append(figures["loss"]))
    assert result.steps == len(losses) == 16
    assert losses[-1] < losses[0] / 2
    ids = tokenizer([p + r for p, r in zip(PROMPTS, RESPONSES, strict=True)])["input_ids"]
    assert result.tokens == 4 * sum(len(row) + 1 for row in ids)


def stopped_after_every_step(train, steps) -> list[int]:
    """Trains with a stop after each step, a checkpoint a step; the first step made after each stop."""
    gone_on_at = []
    for stop in range(1, steps + 1):
        made = []

        def cut_when_the_checkpoint_is_there(step, *_, stop=stop, made=made):
            made.append(step)
            if step == stop + 1:
                raise Cut

        with contextlib.suppress(Cut):
            train(cut_when_the_checkpoint_is_there)
        gone_on_at.append(made[0])
    return gone_on_at


def test_a_run_stopped_after_any_step_ends_with_the_weights_of_an_undisturbed_one(tokenizer, tmp_path):
    """Two epochs of three steps, the last of each a smaller batch; no two rows are alike."""
    rows = [(f"User: What is {n}+{n}? Assistant:", "It is " + "really " * (n % 5) + f"{2 * n}.") for n in range(10)]

    def train(folder, on_step):
        fine_tune(tokenizer, tmp_path / folder, rows=rows, epochs=2, on_step=on_step, checkpoint_every=1)

    assert stopped_after_every_step(lambda on_step: train("stopped", on_step), 6) == list(range(1, 7))
    train("whole", lambda *_: None)
    stopped, whole = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_a_scorer_stopped_after_any_step_ends_with_the_weights_of_an_undisturbed_one(tokenizer, tmp_path):
    """Two epochs of three steps, the last of each a smaller batch."""
    pairs = [(f"User: What is {n}? Assistant: It is {n}.", f"User: What is {n}? Assistant: No.") for n in range(10)]

    def train(folder, on_step):
        train_reward_model(
            model_path=base_folder("student-qwen"), tokenizer=tokenizer, pairs=pairs, held_back=[],
            settings=RewardTraining(epochs=2, learning_rate=1e-3, batch_size=4), output=tmp_path / folder / "scorer",
            seed=1, device="cpu", dtype="float32", on_step=on_step, checkpoint_every=1,
        )  # fmt: skip

    assert stopped_after_every_step(lambda on_step: train("stopped", on_step), 6) == list(range(1, 7))
    train("whole", lambda *_: None)
    stopped, whole = (load_file(tmp_path / run / "scorer" / "model.safetensors") for run in ("stopped", "whole"))
    assert all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_every_epoch_takes_every_row_once_in_an_order_of_its_own():
    lengths = [1 + place % 7 for place in range(40)]
    orders = [
        list(RowOrder(40, seed, lambda epoch=epoch: epoch, grouped, 4))
        for grouped in (None, lengths)
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert all(sorted(order) == list(range(40)) for order in orders)
    assert len(set(map(tuple, orders))) == len(orders)


def test_a_bfloat16_run_saves_bfloat16_and_learns(tokenizer, tmp_path):
    losses = []
    fine_tune(tokenizer, tmp_path, dtype="bfloat16", on_step=lambda s, n, figures: losses.append(figures["loss"]))
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.bfloat16}
    assert losses[-1] < losses[0] / 2


def test_rows_that_all_are_too_long_are_an_error(tokenizer, tmp_path):
    with pytest.raises(ValueError, match="max_tokens 8"):
        fine_tune(tokenizer, tmp_path, max_tokens=8)


@pytest.mark.parametrize("lora", [None, LoRASettings(rank=8)])
def test_a_scorer_learns_to_prefer_the_chosen_answer(tokenizer, tmp_path, lora):
    from rewards import load

    asked = "User: What is a {x}? Assistant:"
    pairs = [(f"{asked.format(x=x)}A {x} is good.", f"{asked.format(x=x)}No.") for x in "abcdefgh"]
    result = train_reward_model(
        model_path=base_folder("student-qwen"),
        tokenizer=tokenizer,
        pairs=pairs * 4,
        held_back=pairs[:2],
        settings=RewardTraining(epochs=6, learning_rate=1e-2 if lora else 1e-3, batch_size=8, lora=lora),
        output=tmp_path / "helpful",
        seed=1,
        device="cpu",
        dtype="float32",
        on_step=lambda *_: None,
    )
    assert result.accuracy == 1.0
    config = json.loads((tmp_path / "helpful" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForSequenceClassification"]
    assert config["pad_token_id"] == tokenizer.pad_token_id
    reward = load("reward_model", model=str(tmp_path / "helpful"), part="whole")
    prompts = [asked.format(x=x) for x in "abcdefgh"]
    good = reward(prompts, [f"A {x} is good." for x in "abcdefgh"])
    poor = reward(prompts, ["No."] * 8)
    assert all(better > worse + 1 for better, worse in zip(good, poor, strict=True))
    start, trained = (load_file(f / "model.safetensors") for f in (base_folder("student-qwen"), tmp_path / "helpful"))
    frozen = {name for name in start.keys() & trained.keys() if torch.equal(start[name], trained[name])}
    assert frozen == {name for name in start if lora and "proj.weight" not in name and name in trained}
    assert (tmp_path / "helpful-adapter").is_dir() == (lora is not None)


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_adapters_learn_and_are_merged_into_a_plain_checkpoint(tokenizer, tmp_path, quantize):
    losses = []
    lora = LoRASettings(rank=8, quantize=quantize)
    fine_tune(tokenizer, tmp_path, lora=lora, learning_rate=1e-2, on_step=lambda s, n, f: losses.append(f["loss"]))
    assert losses[-1] < losses[0] / 2
    merged, start = weights(tmp_path), load_file(base_folder("student-qwen") / "model.safetensors")
    assert merged.keys() == start.keys()
    changed = {name for name in start if not torch.equal(merged[name], start[name])}
    assert changed == {name for name in start if "proj.weight" in name}
    adapter = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 2 * len(changed)


def test_adapters_go_on_from_a_checkpoint(tokenizer, tmp_path):
    def cut(step, steps, figures):
        if step == 10:
            raise KeyboardInterrupt

    def press_ctrl_c(step, steps, figures):
        seen.append(step)
        if step == 12:
            press()

    chosen = {"lora": LoRASettings(rank=4), "checkpoint_every": 8}
    with pytest.raises(KeyboardInterrupt):
        fine_tune(tokenizer, tmp_path / "cut", on_step=cut, **chosen)
    seen = []
    with interrupts_heeded(), pytest.raises(KeyboardInterrupt):
        fine_tune(tokenizer, tmp_path / "cut", on_step=press_ctrl_c, **chosen)
    assert seen == [9, 10, 11, 12, 13]
    resumed_at = []
    fine_tune(tokenizer, tmp_path / "cut", on_step=lambda step, *_: resumed_at.append(step), **chosen)
    fine_tune(tokenizer, tmp_path / "whole", **chosen)
    assert resumed_at[0] == 14
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert all(torch.allclose(resumed[name], whole[name], atol=1e-6) for name in whole)


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="target_modules is empty"):
        LoRASettings(target_modules=[])
