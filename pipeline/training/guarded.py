"""What every trainer here adds to transformers' own: complete checkpoints, and no step on a loss
or a gradient that is not finite."""

import logging
import math
import os
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PrinterCallback, TrainerCallback

from pipeline.config.experts import NOT_BALANCED, BalanceSettings
from pipeline.core.console import LOGGER
from pipeline.core.errors import RunError
from pipeline.core.files import append_json_line
from pipeline.core.stopping import finishing, raise_if_stopped, stop_asked
from pipeline.core.watchdog import phase
from pipeline.training.checkpoints import WRITING, clear_unfinished, finish_checkpoint
from pipeline.training.expert_loads import ExpertLoads
from pipeline.training.packed.losses import without_adapters
from pipeline.training.sharded_trainer import ShardedTrainer

NONFINITE = "nonfinite.jsonl"


def _onto_cpu(storage, location: str):
    """accelerate calls a CPU of several processes `cpu:0`, transformers asks torch to load an optimizer onto that
    device when a run is resumed, and torch knows it as `cpu` alone."""
    return storage if location.startswith("cpu:") else None


torch.serialization.register_package(100, lambda storage: None, _onto_cpu)


class GuardedTrainer(ShardedTrainer):
    """Mixin; list it before `transformers.Trainer`.

    A step whose loss or gradient norm is not finite leaves weights and optimizer as they are, counts as `skipped` in
    that step's figures, and writes the batch to `nonfinite.jsonl` beside the trainer's folder. After `nonfinite_steps`
    of them in a row training ends with a RunError. With several processes one such process is enough, so that all
    decide alike; each writes its own rows.

    After the first Ctrl-C a checkpoint is written at the next step that `stops_every` allows, and KeyboardInterrupt is
    raised. `on_checkpoint(step)` is called in the first process for each checkpoint on the disk.
    """

    stops_every = 1
    """Interval of steps at which stopping and resuming changes no result."""
    on_checkpoint: Callable[[int], None] | None = None

    def __init__(
        self,
        *args,
        keep_checkpoints: int = 2,
        nonfinite_steps: int = 3,
        balance: BalanceSettings = NOT_BALANCED,
        **kwargs,
    ):
        self._keep_checkpoints, self._nonfinite_steps = keep_checkpoints, nonfinite_steps
        self._writing = False
        self._batch: list[tuple[float, object]] = []
        self._skipped, self._in_a_row = False, 0
        super().__init__(*args, **kwargs)
        self.experts = ExpertLoads(self, without_adapters(self, self.model), balance)
        self.add_callback(self.experts)
        self.remove_callback(PrinterCallback)  # what it prints is shown by progress bars and kept in metrics
        self._stopped = False
        self.add_callback(_StopWhenAsked(self))

    def train(self, *args, **kwargs):
        what = "this step" if self.stops_every == 1 else f"this rollout, at the next step of {self.stops_every}"
        with finishing(f"{what}, then a checkpoint is written"):
            result = super().train(*args, **kwargs)
        if self._stopped:
            logging.getLogger(LOGGER).info("stopped at step %d, of which there is a checkpoint", self.state.global_step)
            self.accelerator.wait_for_everyone()  # if the others ended now, they would end this one while it writes
        raise_if_stopped(self._stopped)
        return result

    def stop_here(self) -> bool:
        """Whether training is to end after this step, with a checkpoint, in every process."""
        here = self.state.global_step % self.stops_every == 0
        self._stopped = here and self._anywhere(stop_asked())
        return self._stopped

    # ---- Checkpoints ----------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, WRITING) if self._writing else folder

    def _save_checkpoint(self, model, trial) -> None:
        folder, step = Path(self.args.output_dir), self.state.global_step
        with phase("checkpoint"):
            if self.args.should_save:
                clear_unfinished(folder)
            self.accelerator.wait_for_everyone()
            self._writing = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = False
            self.save_beside(folder / WRITING / f"checkpoint-{step}")
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                finish_checkpoint(folder, step, self._keep_checkpoints)
                if self.on_checkpoint:
                    self.on_checkpoint(step)

    def save_beside(self, folder: Path) -> None:
        """Hook for further files of a checkpoint. Called in all processes; only one with `should_save` writes."""

    @property
    def skipped(self) -> bool:
        """Whether the last step left weights and optimizer as they were."""
        return self._skipped

    # ---- Steps that are not finite --------------------------------------------------------------------------------

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.saw_batch(loss, inputs)
        return loss

    def saw_batch(self, loss: torch.Tensor, batch) -> None:
        """Call once per backward pass, with the batch that `describe_batch` can describe."""
        self._batch.append((loss.item(), batch))

    def describe_batch(self, batch) -> list[dict]:
        """One entry a row of a batch."""
        tokenizer = self.processing_class
        texts = {name: tokenizer.batch_decode(ids) for name, ids in batch.items() if name.endswith("input_ids")}
        return [dict(zip(texts, row, strict=True)) for row in zip(*texts.values(), strict=True)]

    def _get_grad_norm(self, model, grad_norm=None):
        """Called between the backward pass and the optimizer's step."""
        norm = super()._get_grad_norm(model, grad_norm)
        value = float(norm)
        losses = [loss for loss, _ in self._batch]
        self._skipped = self._anywhere(not all(map(math.isfinite, (value, *losses))))
        self._in_a_row = self._in_a_row + 1 if self._skipped else 0
        if self._skipped:
            self._skip_step(model, sum(losses), value)
        self._batch.clear()
        return norm

    def _anywhere(self, here: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return here
        return bool(self.accelerator.reduce(torch.tensor(float(here), device=self.accelerator.device)).item())

    def _skip_step(self, model, loss: float, norm: float) -> None:
        """Clears gradients: optimizers skip parameters without one, their moments included."""
        for parameter in model.parameters():
            parameter.grad = None
        path = self._write_batch(loss, norm)
        what = f"step {self.state.global_step + 1} has loss {loss:g} and gradient norm {norm:g}"
        logging.getLogger(LOGGER).warning("%s: the step is skipped. Its batch is in %s.", what, path)
        if self._in_a_row >= self._nonfinite_steps:
            raise RunError(
                f"Training ended: {what}, and so it was {self._in_a_row} steps in a row (watchdog.nonfinite_steps). "
                f"{path} has the rows of these batches{self.batch_summary()}. The last "
                "checkpoint is kept. Lower the learning rate, fix the rows or rewards, and run the same command."
            )

    def batch_summary(self) -> str:
        """Describe the batch further in the error message."""
        return ""

    def _write_batch(self, loss: float, norm: float) -> Path:
        rank = self.accelerator.process_index
        path = Path(self.args.output_dir).with_name(NONFINITE if rank == 0 else f"rank-{rank}-{NONFINITE}")
        figures = {"step": self.state.global_step + 1, "loss": str(loss), "grad_norm": str(norm)}
        for _, batch in self._batch:
            for row in self.describe_batch(batch):
                append_json_line(path, {**figures, **row})
        return path

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs:
            logs |= {"skipped": int(self._skipped), **self.experts.figures}
        super().log(logs, *args, **kwargs)


class _StopWhenAsked(TrainerCallback):
    def __init__(self, trainer: GuardedTrainer):
        self._trainer = trainer

    def on_step_end(self, args, state, control, **_):
        if self._trainer.stop_here():
            control.should_save = control.should_training_stop = True
