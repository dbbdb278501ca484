"""What every trainer here shares: where it resumes, how it reports, how it saves."""

import json
from collections.abc import Callable
from pathlib import Path

from transformers import TrainerCallback


class StepCallback(TrainerCallback):
    """Passes each optimizer step's logged figures to `on_step(step, steps, figures)`."""

    def __init__(self, on_step: Callable[[int, int, dict], None]):
        self.on_step = on_step

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            figures = {key: float(value) for key, value in logs.items()}
            self.on_step(state.global_step, state.max_steps, figures)


def last_trainer_checkpoint(folder: Path) -> str | None:
    """The last whole checkpoint that a trainer left in `folder`, None where there is none.

    The trainer writes `trainer_state.json` last, so a checkpoint without a readable one was cut short.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((str(path) for path in found if _is_whole(path)), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())
    except (OSError, ValueError):
        return False
    return True


def save_checkpoint(model, tokenizer, folder: Path) -> None:
    """A plain Hugging Face checkpoint: safetensors, configuration, generation configuration, tokenizer."""
    model.save_pretrained(folder, safe_serialization=True)
    tokenizer.save_pretrained(folder)
