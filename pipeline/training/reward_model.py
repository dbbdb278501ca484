"""Trains a scorer on preference pairs with TRL's RewardTrainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CHECKPOINT_EVERY = 200
"""Optimizer steps between resumable checkpoints."""
KEEP_CHECKPOINTS = 2


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
    checkpoint_every: int = CHECKPOINT_EVERY,
    nonfinite_steps: int = 3,
) -> RewardModelResult:
    """Fine-tunes the language model at `model_path` with a scalar head on (chosen, rejected) texts.

    Loss is -log sigmoid(score(chosen) - score(rejected)) (Bradley-Terry). Saves a sequence-classification checkpoint
    with one label to `output`. An interrupted training goes on from its checkpoints in `trainer_folder(output)`, and
    one that has finished is not repeated. Raises ValueError where no pair fits `max_tokens`, RunError after
    `nonfinite_steps` steps in a row whose loss or gradient is not finite.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    from pipeline.training.grpo_checkpoints import last_checkpoint
    from pipeline.training.guarded import GuardedTrainer
    from pipeline.training.trainer_io import StepCallback, common_arguments, read_result, save_checkpoint, write_result
    from pipeline.watchdog import phase
    from rewards.reward_model import reward_model_ids

    class Trainer(GuardedTrainer, RewardTrainer):
        pass

    noted = output.with_name(f"{output.name}-result.json")
    finished = read_result(noted, RewardModelResult, output)
    if finished is not None:
        return finished

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
    set_seed(seed)  # the scalar head is drawn at random
    model = AutoModelForSequenceClassification.from_pretrained(
        model_path, num_labels=1, dtype=torch.float32, pad_token_id=tokenizer.pad_token_id
    )
    rows_per_device = min(batch_size, 8 if device != "cpu" else 64)
    trainer = Trainer(
        model,
        args=RewardConfig(
            output_dir=str(trainer_folder(output)),
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            per_device_train_batch_size=rows_per_device,
            gradient_accumulation_steps=max(1, batch_size // rows_per_device),
            save_steps=checkpoint_every,
            **common_arguments(device, dtype, seed),
        ),
        train_dataset=Dataset.from_list(rows),
        eval_dataset=Dataset.from_list(checks) if checks else None,
        processing_class=tokenizer,
        callbacks=[StepCallback(on_step)],
        keep_checkpoints=KEEP_CHECKPOINTS,
        nonfinite_steps=nonfinite_steps,
    )
    checkpoint = last_checkpoint(trainer_folder(output))
    with phase("update"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    with phase("evaluation"):
        accuracy = float(trainer.evaluate()["eval_accuracy"]) if checks else None
    save_checkpoint(trainer.model.to(getattr(torch, dtype)), tokenizer, output)
    tokens = epochs * sum(len(ids) for row in rows for ids in row.values())
    result = RewardModelResult(trainer.state.global_step, tokens, len(rows), accuracy)
    write_result(noted, result, output)
    return result


def trainer_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.trainer")
