"""Experts while a model trains: the figures of how evenly they are used, and the step that evens it out."""

import torch
from transformers import TrainerCallback

from pipeline.config.experts import BalanceSettings
from pipeline.models.routers import Routers, check_balance, load_figures


class ExpertLoads(TrainerCallback):
    """After each optimizer step: `figures` of what the step's tokens were sent to, over all processes, and balancing
    biases moved by it (DeepSeek-V3, arXiv 2412.19437, section 2.1.2). Nothing for a dense model.

    Raises ValueError where biases are to be moved that the model does not have.
    """

    def __init__(self, trainer, model: torch.nn.Module, balance: BalanceSettings):
        self._trainer, self._rate = trainer, balance.bias_rate
        self.routers = Routers(model)
        self.figures: dict[str, float] = {}
        check_balance(self.routers, balance, model)

    def on_optimizer_step(self, *args, **kwargs):
        if not len(self.routers):
            return
        accelerator = self._trainer.accelerator
        counts = self.routers.take()
        if accelerator.num_processes > 1:
            counts = accelerator.reduce(counts.to(accelerator.device), reduction="sum").cpu()
        self.figures = load_figures(counts)
        if self._rate and not self._trainer.skipped:
            self.routers.balance(counts, self._rate)
