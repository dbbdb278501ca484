"""Experts while a model trains: the figures of how evenly they are used, and the step that evens it out."""

import torch
from transformers import TrainerCallback

from pipeline.config.experts import BalanceSettings
from pipeline.models.routers import Routers, check_balance, load_figures


class ExpertLoads(TrainerCallback):
    """After each optimizer step: `figures` of what the step's tokens were sent to, over all processes, and balancing
    biases moved by it (DeepSeek-V3, arXiv 2412.19437, section 2.1.2). Nothing for a dense model. With
    `sequence_weight` the sequence-wise loss joins the gradient, a mean over the sequences of a whole step;
    `sequence_imbalance` is the mean of it without its weight, over layers too, in this process.

    Raises ValueError where biases are to be moved that the model does not have.
    """

    def __init__(self, trainer, model: torch.nn.Module, balance: BalanceSettings):
        self._trainer, self._rate = trainer, balance.bias_rate
        self.routers = Routers(model)
        self.figures: dict[str, float] = {}
        check_balance(self.routers, balance, model)
        if balance.sequence_weight:  # processes average gradients, so that a process divides by its own sequences
            rows = trainer.args.per_device_train_batch_size * trainer.args.gradient_accumulation_steps
            self.routers.add_sequence_loss(balance.sequence_weight / rows)

    def on_optimizer_step(self, *args, **kwargs):
        if not len(self.routers):
            return
        accelerator = self._trainer.accelerator
        counts, (loss, losses) = self.routers.take(), self.routers.take_sequence_loss()
        if accelerator.num_processes > 1:
            counts = accelerator.reduce(counts.to(accelerator.device), reduction="sum").cpu()
        self.figures = load_figures(counts)
        if losses:
            self.figures["sequence_imbalance"] = (loss / losses).item()
        if self._rate and not self._trainer.skipped:
            self.routers.balance(counts, self._rate)
