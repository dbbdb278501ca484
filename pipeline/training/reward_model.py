"""Trains a scorer on preference pairs with TRL's RewardTrainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.config.reward_model import RewardTraining
from pipeline.core.ranks import process_count, rows_in_a_pass
from pipeline.core.watchdog import beat, phase
from pipeline.training.guarded import GuardedTrainer
from pipeline.training.lora import load_scorer, peft_config, settle_adapters
from pipeline.training.packed.losses import PackedPairs
from pipeline.training.packed.padding import pad
from pipeline.training.row_order import OrderedRows
from pipeline.training.trainer_io import (
    StepCallback,
    agreed_checkpoint,
    common_arguments,
    read_result,
    save_trained,
    write_result,
)
from rewards.builtin.reward_model import reward_model_ids

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
    settings: RewardTraining,
    output: Path,
    seed: int,
    device: str,
    dtype: str,
    on_step: Callable[[int, int, dict], None],
    checkpoint_every: int = CHECKPOINT_EVERY,
    nonfinite_steps: int = 3,
    parallel: ParallelSettings = NOT_SHARED,
) -> RewardModelResult:
    """Fine-tunes the language model at `model_path` with a scalar head on (chosen, rejected) texts.

    Loss is -log sigmoid(score(chosen) - score(rejected)) (Bradley-Terry). Saves a sequence-classification checkpoint
    with one label to `output`, and with `settings.lora` the adapters beside it. An interrupted training continues from
    its checkpoints in `trainer_folder(output)`, and one that has finished is not repeated. With several processes each
    calls this; `parallel` says how they share the model, and the first saves. Raises ValueError where no pair fits
    `max_tokens`, RunError after `nonfinite_steps` steps in a row whose loss or gradient is not finite.
    """
    from datasets import Dataset
    from transformers import set_seed
    from trl import RewardConfig, RewardTrainer

    class Trainer(PackedPairs, OrderedRows, GuardedTrainer, RewardTrainer):
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
        return [row for row in rows if max(map(len, row.values())) <= settings.max_tokens]

    rows, checks = encode(pairs), encode(held_back)
    if not rows:
        raise ValueError(f"none of the {len(pairs)} preference pairs fits max_tokens {settings.max_tokens}; raise it")
    set_seed(seed)  # the scalar head is drawn at random
    lora, processes = settings.lora, process_count()
    pairs_per_device = rows_in_a_pass(settings.batch_size, settings.pairs_per_device, processes)
    trainer = Trainer(
        load_scorer(model_path, lora, dtype, tokenizer.pad_token_id),
        args=RewardConfig(
            output_dir=str(trainer_folder(output)),
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            per_device_train_batch_size=pairs_per_device,
            gradient_accumulation_steps=settings.batch_size // pairs_per_device // processes,
            save_steps=checkpoint_every,
            **common_arguments(device, dtype, seed, parallel, lora),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft_config(lora, "SEQ_CLS") if lora else None,
        callbacks=[StepCallback(on_step)],
        keep_checkpoints=KEEP_CHECKPOINTS,
        nonfinite_steps=nonfinite_steps,
        parallel=parallel,
    )
    settle_adapters(trainer.model, lora)
    checkpoint = agreed_checkpoint(trainer_folder(output))
    with phase("update"):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    with phase("evaluation"):
        measures = trainer.in_shards or trainer.is_world_process_zero()  # a pass over shards takes all processes
        accuracy = _accuracy(trainer, checks) if checks and measures else None
    tokens = settings.epochs * sum(len(ids) for row in rows for ids in row.values())
    result = RewardModelResult(trainer.state.global_step, tokens, len(rows), accuracy)
    save_trained(trainer, tokenizer, output, output.with_name(f"{output.name}-adapter"), dtype)
    if trainer.is_world_process_zero():
        write_result(noted, result, output)
    return result


def _accuracy(trainer, pairs: list[dict[str, list[int]]]) -> float:
    """Share of the pairs whose chosen answer scores higher."""
    import torch

    model = trainer.accelerator.unwrap_model(trainer.model).eval()
    device, padding, right = trainer.accelerator.device, model.config.pad_token_id, 0
    for first in range(0, len(pairs), trainer.args.per_device_train_batch_size):
        some = pairs[first : first + trainer.args.per_device_train_batch_size]
        texts = [pair[which] for which in ("chosen_ids", "rejected_ids") for pair in some]
        ids, mask = pad(texts, padding, device), pad([[1] * len(text) for text in texts], 0, device)
        with torch.no_grad(), trainer.accelerator.autocast():
            chosen, rejected = model(input_ids=ids, attention_mask=mask).logits[:, 0].float().chunk(2)
        right += int((chosen > rejected).sum())
        beat()
    return right / len(pairs)


def trainer_folder(output: Path) -> Path:
    return output.with_name(f".{output.name}.trainer")
