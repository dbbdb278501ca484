"""SFT and reward models on packed batches: loss, gradients and step are those of TRL on the padded ones."""

import copy

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import RewardConfig, RewardTrainer, SFTConfig, SFTTrainer

from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import ParallelSettings
from pipeline.training.lora import peft_config
from pipeline.training.packed.few_passes import use_few_passes
from pipeline.training.packed.losses import PackedAnswers, PackedPairs
from pipeline.training.trainer_io import common_arguments
from tests.pipeline.engines.tiny import tiny_checkpoint

LENGTHS = [(5, 9), (1, 4), (30, 2), (12, 12), (3, 1), (7, 20)]
"""Prompt and answer tokens of the rows."""


def tokens(count: int, seed: int) -> list[int]:
    return torch.randint(4, 500, (count,), generator=torch.Generator().manual_seed(seed)).tolist()


def answers() -> Dataset:
    rows = [(tokens(asked, 2 * i), tokens(answered, 2 * i + 1)) for i, (asked, answered) in enumerate(LENGTHS)]
    return Dataset.from_list([{"input_ids": p + a, "labels": [-100] * len(p) + a} for p, a in rows])


def pairs() -> Dataset:
    """Texts end in the end token, and one in the padding token, where transformers reads no score."""
    texts = [([*tokens(a, 2 * i), 1], [*tokens(b, 2 * i + 1), 1]) for i, (a, b) in enumerate(LENGTHS)]
    texts[2] = (texts[2][0], [*texts[2][1], 0])
    return Dataset.from_list([{"chosen_ids": chosen, "rejected_ids": rejected} for chosen, rejected in texts])


KINDS = {
    "answers": (PackedAnswers, SFTTrainer, SFTConfig, AutoModelForCausalLM, answers, "CAUSAL_LM"),
    "pairs": (PackedPairs, RewardTrainer, RewardConfig, AutoModelForSequenceClassification, pairs, "SEQ_CLS"),
}


def trained(kind, packed, folder, output, lora):
    """Losses, figures and what the weights have become after two optimizer steps of two batches, the last one short."""
    mixin, trainer_class, config, model_class, rows, task = KINDS[kind]
    torch.manual_seed(0)  # a scorer's head is drawn at random
    options = {} if kind == "answers" else {"num_labels": 1, "pad_token_id": 0}
    trainer = type("Trainer", (mixin, trainer_class) if packed else (trainer_class,), {})(
        model_class.from_pretrained(folder, dtype=torch.float32, **options),
        args=config(
            output_dir=str(output), per_device_train_batch_size=2, gradient_accumulation_steps=2, num_train_epochs=1,
            learning_rate=0.1, optim="sgd", save_strategy="no",
            **common_arguments("cpu", "float32", 0, ParallelSettings(), None),
        ),
        train_dataset=rows(),
        processing_class=AutoTokenizer.from_pretrained(folder),
        peft_config=peft_config(lora, task) if lora else None,
    )  # fmt: skip
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "loss" in entry]
    weights = {name: p.detach() for name, p in trainer.model.named_parameters() if p.requires_grad}
    return logged, weights


@pytest.mark.parametrize("architecture", ["qwen3", "llama"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("lora", [None, LoRASettings(rank=4)], ids=["whole", "adapters"])
def test_a_step_is_trls_on_the_padded_batch(kind, architecture, lora, tmp_path):
    folder = tiny_checkpoint(tmp_path / "model", architecture)
    (ours, after), (stock, expected) = (
        trained(kind, packed, folder, tmp_path / str(packed), lora) for packed in (True, False)
    )
    assert "num_tokens" in stock[0] and "num_tokens" not in ours[0]  # TRL's own loss counts them
    assert [entry["loss"] for entry in ours] == pytest.approx([entry["loss"] for entry in stock], rel=1e-5)
    norms = [[entry["grad_norm"] for entry in entries] for entries in (ours, stock)]
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    for name, weight in expected.items():
        assert (after[name] - weight).norm() <= 1e-5 * weight.norm() + 1e-8, name
    figures = {"entropy"} if kind == "answers" else {"accuracy", "margin", "mean_reward", "min_reward", "max_reward"}
    for name in figures:
        assert ours[0][name] == pytest.approx(stock[0][name], rel=1e-3, abs=1e-6), name


@pytest.mark.parametrize("architecture", ["qwen3", "qwen2", "llama"])
@pytest.mark.parametrize("changes", [{}, {"hidden_act": "gelu", "rms_norm_eps": 0.1}], ids=["silu", "gelu"])
def test_few_passes_compute_what_many_do(architecture, changes, tmp_path):
    plain = AutoModelForCausalLM.from_pretrained(tiny_checkpoint(tmp_path, architecture, **changes))
    quick = copy.deepcopy(plain)
    use_few_passes(quick)
    ids = torch.tensor([tokens(40, 1), tokens(40, 2)])
    for width, limit in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
        found = []
        for model in (plain, quick):
            model.zero_grad()
            with torch.autocast("cpu", width, enabled=width != torch.float32):
                loss = model(ids, labels=ids).loss
            loss.backward()
            found.append((loss.item(), {name: p.grad.clone() for name, p in model.named_parameters()}))
        assert found[1][0] == pytest.approx(found[0][0], rel=limit)
        for name, expected in found[0][1].items():
            assert (found[1][1][name] - expected).norm() <= limit * expected.norm() + 1e-8, (width, name)
