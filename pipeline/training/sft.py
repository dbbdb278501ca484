"""Supervised fine-tuning with TRL's SFTTrainer, on prompt and completion ids that we make ourselves.

Loss is on the completion only, end token included. Prompts are encoded alone, exactly as they are when the model
generates, so the first `<think>` belongs to the completion and is trained on.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.config.sft import SFTSettings
from pipeline.core.ranks import process_count, rows_in_a_pass
from pipeline.core.tokens import answers_ids, prompts_ids
from pipeline.core.watchdog import phase
from pipeline.training.fp8 import train_in_fp8
from pipeline.training.guarded import GuardedTrainer
from pipeline.training.lora import load_policy, peft_config, settle_adapters
from pipeline.training.packed.losses import PackedAnswers
from pipeline.training.row_order import OrderedRows
from pipeline.training.trainer_io import StepCallback, common_arguments, save_trained


@dataclass(frozen=True)
class SFTResult:
    steps: int
    tokens: int
    """Prompt and completion tokens that were trained on, over all epochs, padding not counted."""
    rows: int
    dropped_too_long: int
    final_loss: float


def encode_rows(
    tokenizer, prompts: Sequence[str], responses: Sequence[str], max_tokens: int
) -> tuple[list[dict[str, list[int]]], int]:
    """(rows of `input_ids` and `labels`, number of rows dropped for length). Labels of the prompt are -100."""
    asked, answered = prompts_ids(tokenizer, prompts), answers_ids(tokenizer, responses)
    rows = [
        {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}
        for prompt, answer in zip(asked, answered, strict=True)
    ]
    kept = [row for row in rows if len(row["input_ids"]) <= max_tokens]
    return kept, len(rows) - len(kept)


def train_sft(
    *,
    model_path: Path,
    tokenizer,
    prompts: Sequence[str],
    responses: Sequence[str],
    settings: SFTSettings,
    output: Path,
    seed: int,
    device: str,
    dtype: str,
    on_step: Callable[[int, int, dict], None],
    resume_from: Path | None = None,
    nonfinite_steps: int = 3,
    on_checkpoint: Callable[[int], None] | None = None,
    parallel: ParallelSettings = NOT_SHARED,
) -> SFTResult:
    """Fine-tunes the checkpoint at `model_path` and saves a plain one of `dtype` to `output/checkpoint`.

    With `settings.lora` adapters are trained, saved to `output/adapter` and merged into the checkpoint.

    Weights and optimizer are float32 (bfloat16 weights would swallow small updates); `dtype` is that of the arithmetic.
    Trainer checkpoints go to `output/trainer`; `resume_from` is one of them. `on_step(step, steps, figures)`
    is called after each optimizer step, `on_checkpoint(step)` for each resumable checkpoint that is whole. With several
    processes each calls this; `parallel` says how they share the model, and the first saves.
    Raises ValueError where no row fits `settings.max_tokens`, RunError after `nonfinite_steps` steps in a row whose
    loss or gradient is not finite.
    """
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    class Trainer(PackedAnswers, OrderedRows, GuardedTrainer, SFTTrainer):
        pass

    rows, too_long = encode_rows(tokenizer, prompts, responses, settings.max_tokens)
    if not rows:
        raise ValueError(
            f"none of the {too_long} training rows fits max_tokens {settings.max_tokens}; raise it in the profile"
        )
    lora, processes = settings.lora, process_count()
    rows_per_device = rows_in_a_pass(settings.batch_size, settings.rows_per_device, processes)
    model = load_policy(model_path, lora, dtype, mtp_weight=settings.mtp_weight)
    if settings.fp8:
        train_in_fp8(model)
    trainer = Trainer(
        model,
        args=SFTConfig(
            output_dir=str(output / "trainer"),
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="cosine_with_min_lr",
            lr_scheduler_kwargs={"min_lr_rate": settings.final_learning_rate_share},
            warmup_steps=settings.warmup_steps,
            per_device_train_batch_size=rows_per_device,
            gradient_accumulation_steps=settings.batch_size // rows_per_device // processes,
            weight_decay=settings.weight_decay,
            packing=False,
            train_sampling_strategy="group_by_length",
            save_steps=settings.checkpoint_every,
            **common_arguments(device, dtype, seed, parallel, lora),
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        peft_config=peft_config(lora) if lora else None,
        callbacks=[StepCallback(on_step)],
        keep_checkpoints=settings.keep_checkpoints,
        balance=settings.balance,
        mtp_weight=settings.mtp_weight,
        nonfinite_steps=nonfinite_steps,
        parallel=parallel,
    )
    trainer.on_checkpoint = on_checkpoint
    settle_adapters(trainer.model, lora)
    with phase("update"):
        trainer.train(resume_from_checkpoint=str(resume_from) if resume_from else None)
    save_trained(trainer, tokenizer, output / "checkpoint", output / "adapter", dtype)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return SFTResult(
        steps=trainer.state.global_step,
        tokens=settings.epochs * sum(len(row["input_ids"]) for row in rows),
        rows=len(rows),
        dropped_too_long=too_long,
        final_loss=sum(losses[-10:]) / len(losses[-10:]),
    )
