"""In which order an epoch takes the rows, as a function of the seed and of the epoch's number alone."""

import random
from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class RowOrder(Sampler):
    """Every row once an epoch, in an order of its own for each epoch.

    transformers draws the order from torch's global generator when an epoch begins. A run that resumes inside the epoch
    would draw another one, and would train on some rows twice and never on others.
    """

    def __init__(self, size: int, seed: int, epoch: Callable[[], int], lengths: list[int] | None, batch_size: int):
        """With `lengths` rows of like length come together in batches of `batch_size`, else the order is random."""
        self.size, self.seed, self.epoch, self.lengths, self.batch_size = size, seed, epoch, lengths, batch_size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        seed = random.Random(f"epoch {self.epoch()} of {self.seed}").getrandbits(63)
        generator = torch.Generator().manual_seed(seed)
        if self.lengths is None:
            return iter(torch.randperm(self.size, generator=generator).tolist())
        return iter(get_length_grouped_indices(self.lengths, self.batch_size, generator=generator))


class OrderedRows:
    """Mixin; list it before `transformers.Trainer`. Trains in `RowOrder`."""

    def _get_train_sampler(self, dataset=None) -> RowOrder:
        rows = self.train_dataset if dataset is None else dataset
        by_length = self.args.train_sampling_strategy == "group_by_length"
        return RowOrder(
            size=len(rows),
            seed=self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
            lengths=[len(ids) for ids in rows["input_ids"]] if by_length else None,
            batch_size=self.args.train_batch_size * self.args.gradient_accumulation_steps,
        )
