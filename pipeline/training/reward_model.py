"""Trains a scorer on preference pairs with TRL's RewardTrainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RewardModelResult:
    steps: int
    tokens: int
    pairs: int
    accuracy: float | None
    """Share of held-back pairs whose chosen answer scores higher; None where none were held back."""


def train_reward_model(
    *,
    model_path: Path,
    tokenizer,
    pairs: Sequence[tuple[str, str]],
    held_back: Sequence[tuple[str, str]],
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_tokens: int,
    output: Path,
    seed: int,
    device: str,
    dtype: str,
    on_step: Callable[[int, int, dict], None],
) -> RewardModelResult:
    """Fine-tunes the language model at `model_path` with a scalar head on (chosen, rejected) texts.

    Loss is -log sigmoid(score(chosen) - score(rejected)) (Bradley-Terry). Saves a sequence-classification checkpoint
    with one label to `output`. Raises ValueError where no pair fits `max_tokens`.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    from pipeline.training.trainer_io import StepCallback, common_arguments, save_checkpoint
    from rewards.reward_model import reward_model_ids

    def encode(found: Sequence[tuple[str, str]]) -> list[dict[str, list[int]]]:
        rows = [
            {
                "chosen_ids": reward_model_ids(tokenizer, chosen),
                "rejected_ids": reward_model_ids(tokenizer, rejected),
            }
            for chosen, rejected in found
        ]
        return [row for row in rows if max(map(len, row.values())) <= max_tokens]

    rows, checks = encode(pairs), encode(held_back)
    if not rows:
        raise ValueError(f"none of the {len(pairs)} preference pairs fits max_tokens {max_tokens}; raise it")
    model = AutoModelForSequenceClassification.from_pretrained(
        model_path, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    rows_per_device = min(batch_size, 8 if device != "cpu" else 64)
    trainer = RewardTrainer(
        model,
        args=RewardConfig(
            output_dir=str(output.with_name(f".{output.name}.trainer")),
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            per_device_train_batch_size=rows_per_device,
            gradient_accumulation_steps=max(1, batch_size // rows_per_device),
            save_strategy="no",
            **common_arguments(device, dtype, seed),
        ),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(checks) if checks else None,
        processing_class=tokenizer,
        callbacks=[StepCallback(on_step)],
    )
    trainer.train()
    accuracy = float(trainer.evaluate()["eval_accuracy"]) if checks else None
    save_checkpoint(trainer.model.to(getattr(torch, dtype)), tokenizer, output)
    tokens = epochs * sum(len(ids) for row in rows for ids in row.values())
    return RewardModelResult(trainer.state.global_step, tokens, len(rows), accuracy)
