"""What the SFT and reward-model trainers share: how they report, checkpoint and save."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from pipeline.training.grpo_checkpoints import finish_checkpoint


class StepCallback(TrainerCallback):
    """Passes each optimizer step's logged figures to `on_step(step, steps, figures)`."""

    def __init__(self, on_step: Callable[[int, int, dict], None]):
        self.on_step = on_step

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            figures = {key: float(value) for key, value in logs.items()}
            self.on_step(state.global_step, state.max_steps, figures)


class WholeCheckpoints(TrainerCallback):
    """Marks each checkpoint as whole once it is on disk, and keeps the last few whole ones."""

    def __init__(self, keep: int):
        self.keep = keep

    def on_save(self, args, state, control, **_):
        finish_checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.keep)


def common_arguments(device: str, dtype: str, seed: int) -> dict[str, Any]:
    """TRL arguments that hang on the machine and on how we log, not on what is trained."""
    return {
        "max_length": None,
        "logging_steps": 1,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "gradient_checkpointing": device != "cpu",
        "dataloader_pin_memory": device != "cpu",
        "seed": seed,
    }


def save_checkpoint(model, tokenizer, folder: Path) -> None:
    """A plain Hugging Face checkpoint: safetensors, configuration, generation configuration, tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
