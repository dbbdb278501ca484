"""Log-probabilities under the policy that wrote a rollout, for the steps on it after the first."""

import torch

from pipeline.training.packed.packing import Row, shortest
from pipeline.training.sharding import aligned


@torch.no_grad()
def remember_old_logprobs(trainer, wanted: list[Row], rows: list[Row]) -> None:
    """Puts those of `wanted` into them. Of a model in shards every process makes as many passes, over the shortest of
    `rows` where it has fewer."""
    batches = trainer.microbatches(wanted)
    for batch in aligned(batches, [], trainer.accelerator) if trainer.in_shards else batches:
        logprobs, _ = trainer.logprobs_and_entropies(trainer.model, batch or [shortest(rows)], entropy=False)
        for row, values in zip(batch, logprobs, strict=bool(batch)):
            row.old_logprobs = values[: len(row.completion_ids)].clone()
