"""Log-probabilities under other policies than the one that trains: the reference of the KL term, and the policy that
wrote a rollout."""

import contextlib
from pathlib import Path

import torch
from accelerate.utils import is_peft_model
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import TrainerCallback

from pipeline.core.buffers import kept_tensors
from pipeline.core.shards import reshard, split_like, whole
from pipeline.training.packed.packing import Row, shortest
from pipeline.training.sharding import aligned

FILE = "reference.safetensors"


class Reference:
    """Reference log-probabilities for a trainer: of a second model, or, with adapters, of kept adapter weights.

    It starts as the start model and becomes the latest policy at each `refresh`. Once refreshed it is part of
    checkpoints, since it cannot be rebuilt from anything else.
    """

    def __init__(self, trainer):
        self._trainer = trainer
        self.model = trainer.ref_model
        self.refreshed = False
        policy = trainer.accelerator.unwrap_model(trainer.model)
        self._adapter: dict[str, torch.Tensor] | None = None
        if trainer.beta != 0 and is_peft_model(policy):
            self._adapter = {name: p.detach().clone() for name, p in policy.named_parameters() if p.requires_grad}

    @torch.no_grad()
    def logprobs(self, rows: list[Row]) -> torch.Tensor:
        """(rows, longest completion) log-probabilities of the rows' completion tokens."""
        with self._adapter_in_place(), self._trainer.routing.uncompared():
            model = self._trainer.model if self.model is None else self.model
            return self._trainer.logprobs_and_entropies(model, rows, entropy=False)[0]

    @torch.no_grad()
    def refresh(self) -> None:
        """Make the reference the latest policy."""
        policy = self._held_by(self._trainer.model)
        for name, kept in self._weights().items():
            kept.copy_(policy[name] if self._adapter is None else whole(policy[name]))
        self.refreshed = True

    def save(self, folder: Path) -> None:
        """In all processes, since weights in shards are gathered; the one that `should_save` writes."""
        if not self.refreshed:
            return
        writes, weights = self._trainer.args.should_save, {}
        for name, weight in self._weights().items():
            gathered = whole(weight)
            if writes:
                weights[name] = gathered.cpu().contiguous()
        if writes:
            save_file(weights, folder / FILE)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        if not (folder / FILE).exists():
            return
        weights = self._weights()
        with safe_open(folder / FILE, "pt") as saved:
            for name, kept in weights.items():
                kept.copy_(split_like(saved.get_tensor(name), kept))
        self.refreshed = True

    def _weights(self) -> dict[str, torch.Tensor]:
        """Those of the second model, in shards where it is, or the kept ones of the adapters, which are whole."""
        return self._held_by(self.model) if self._adapter is None else self._adapter

    def _held_by(self, model) -> dict[str, torch.Tensor]:
        plain = self._trainer.accelerator.unwrap_model(model)
        reshard(plain)
        return kept_tensors(plain)

    @contextlib.contextmanager
    def _adapter_in_place(self):
        """Run the policy's model with the kept adapter weights."""
        if self._adapter is None:
            yield
            return
        parameters = self._held_by(self._trainer.model)
        if self._trainer.in_shards:  # gathered for a pass from memory that is theirs, so that values change places
            trained = {name: parameters[name].detach().clone() for name in self._adapter}
            try:
                for name, kept in self._adapter.items():
                    parameters[name].copy_(split_like(kept, parameters[name]))
                yield
            finally:
                reshard(self._trainer.model)
                for name, data in trained.items():
                    parameters[name].copy_(data)
            return
        trained = {name: parameters[name].data for name in self._adapter}
        try:
            for name, kept in self._adapter.items():
                parameters[name].data = kept
            yield
        finally:
            for name, data in trained.items():
                parameters[name].data = data


class RefreshReference(TrainerCallback):
    """Refreshes the reference every `every` optimizer steps (DeepSeek-R1: 400)."""

    def __init__(self, reference: Reference, every: int):
        self._reference, self._every = reference, every

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step % self._every == 0:
            self._reference.refresh()


@torch.no_grad()
def remember_old_logprobs(trainer, wanted: list[Row], rows: list[Row]) -> None:
    """Gives each of `wanted` its log-probabilities under the policy that wrote it, for the steps after the first on the
    rollout. Of a model in shards every process makes as many passes, over the shortest of `rows` where it has fewer."""
    batches = trainer.microbatches(wanted)
    for batch in aligned(batches, [], trainer.accelerator) if trainer.in_shards else batches:
        logprobs, _ = trainer.logprobs_and_entropies(trainer.model, batch or [shortest(rows)], entropy=False)
        for row, values in zip(batch, logprobs, strict=bool(batch)):
            row.old_logprobs = values[: len(row.completion_ids)].clone()
