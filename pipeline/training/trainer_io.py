"""What the SFT and reward-model trainers share: reporting, saving, and knowing that they have finished."""

import json
import logging
import math
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from transformers import TrainerCallback

from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import ParallelSettings
from pipeline.core.console import LOGGER
from pipeline.core.files import fsync_folder, fsync_tree, write_durably
from pipeline.core.generation import settle_generation
from pipeline.core.watchdog import beat
from pipeline.training.checkpoints import damage, file_hashes, last_checkpoint
from pipeline.training.lora import checkpoint_model, save_adapter
from pipeline.training.sharding import shard_arguments

Result = TypeVar("Result")
STORED = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
"""Names of dtypes in safetensors files, and torch's."""


class StepCallback(TrainerCallback):
    """Passes each optimizer step's logged figures to `on_step(step, steps, figures)`."""

    def __init__(self, on_step: Callable[[int, int, dict], None]):
        self.on_step = on_step

    def on_substep_end(self, args, state, control, **_):
        beat()

    def on_step_end(self, args, state, control, **_):
        beat()

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            figures = {key: float(value) for key, value in logs.items()}
            self.on_step(state.global_step, state.max_steps, figures)


def common_arguments(
    device: str, dtype: str, seed: int, parallel: ParallelSettings, lora: LoRASettings | None
) -> dict[str, Any]:
    """TRL arguments that depend on the machine and on logging, not on what is trained."""
    return {
        "max_length": None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": device == "cpu",
        "bf16": dtype == "bfloat16",
        "gradient_checkpointing": device != "cpu",
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": device != "cpu",
        "seed": seed,
        **shard_arguments(parallel, lora),
    }


def save_trained(
    trainer,
    tokenizer,
    checkpoint: Path,
    adapter: Path,
    dtype: str,
    change: Callable[[torch.nn.Module], None] | None = None,
) -> None:
    """Write what a trainer has trained: the whole model, and adapters alone if there are any.

    To be called in all processes, since a model may be in shards; the first writes. `change` is made to what it writes.
    """
    model = trainer.whole_model(getattr(torch, dtype))
    if model is None:
        return
    if change:
        change(model)
    save_adapter(model, adapter)
    save_checkpoint(checkpoint_model(model, dtype), tokenizer, checkpoint)


def save_checkpoint(model, tokenizer, folder: Path) -> None:
    """A plain Hugging Face checkpoint: safetensors, configuration, generation configuration, tokenizer.

    On the disk and renamed into place once it is whole.
    """
    written = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(written, ignore_errors=True)
    settle_generation(model)
    model.save_pretrained(written)
    tokenizer.save_pretrained(written)
    fsync_tree(written)
    shutil.rmtree(folder, ignore_errors=True)
    written.rename(folder)
    fsync_folder(folder.parent)


def stored_dtype(checkpoint: Path) -> str:
    """The dtype of most numbers of a checkpoint: float32, bfloat16 or float16."""
    from safetensors import safe_open

    numbers: Counter[str] = Counter()
    for file in checkpoint.glob("*.safetensors"):
        with safe_open(file, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118 (a handle, no mapping)
                tensor = stored.get_slice(name)
                numbers[STORED.get(tensor.get_dtype(), "float32")] += math.prod(tensor.get_shape())
    return numbers.most_common(1)[0][0] if numbers else "float32"


def agreed_checkpoint(trainer: Path) -> Path | None:
    """`last_checkpoint` for all processes. Only the first looks for it, since damaged ones are moved away.

    Call it after the trainer's arguments are made: they set up communication between processes.
    """
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    found = [last_checkpoint(trainer) if PartialState().is_main_process else None]
    return broadcast_object_list(found)[0]


def write_result(path: Path, result: Any, checkpoint: Path) -> None:
    """Records that a training has finished, its result, and the hashes of its checkpoint."""
    write_durably(path, json.dumps({"result": asdict(result), "files": file_hashes(checkpoint)}, indent=1) + "\n")


def read_result(path: Path, kind: type[Result], checkpoint: Path) -> Result | None:
    """The result of a finished training; None if it has not finished, or its checkpoint has changed since."""
    if not path.is_file():
        return None
    try:
        noted = json.loads(path.read_bytes())
        result, files = kind(**noted["result"]), noted["files"]
    except (ValueError, KeyError, TypeError) as error:
        harm = f"{path} cannot be read ({error!r})"
    else:
        harm = damage(checkpoint, files)
    if harm is None:
        return result
    logging.getLogger(LOGGER).warning("%s had finished, but %s: training it again.", checkpoint, harm)
    return None
