"""What a trainer does beyond transformers' own where its model is in shards over the processes: how the model is put in
shards, gathered again for an engine or a folder, and loaded from checkpoints, in shards or not."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate.utils import is_peft_model
from transformers.trainer import SCHEDULER_NAME

from pipeline.config.parallel import NOT_SHARED, ParallelSettings
from pipeline.core.buffers import kept_tensors
from pipeline.engines import Engine
from pipeline.engines.weights import stored_otherwise
from pipeline.training.lora import plain_model
from pipeline.training.shard_checkpoints import (
    is_in_shards,
    model_from_shards,
    optimizer_from_shards,
    optimizer_into_shards,
)
from pipeline.training.sharding import WholeCopy, settle_sharding


class ShardedTrainer:
    """Goes left of a `transformers.Trainer` among the bases of a class. `parallel` is what the trainer's arguments were
    made with (`shard_arguments`); where nothing is in shards all of it does what transformers does."""

    def __init__(self, *args, parallel: ParallelSettings = NOT_SHARED, **kwargs):
        self._parallel = parallel
        self._whole_copy: WholeCopy | None = None
        super().__init__(*args, **kwargs)

    @property
    def in_shards(self) -> bool:
        """Whether each process has only a part of the model, so that reading weights needs all processes."""
        return self.args.fsdp_plugin_args is not None

    def create_accelerator_and_postprocess(self) -> None:
        super().create_accelerator_and_postprocess()
        if self.in_shards:
            settle_sharding(self, self._parallel)

    def train(self, resume_from_checkpoint: str | None = None, **kwargs):
        if self.in_shards:
            if resume_from_checkpoint and not is_in_shards(Path(resume_from_checkpoint)):
                self._load_before_sharding(resume_from_checkpoint)
            self._whole_copy = WholeCopy(self.model)
        return super().train(resume_from_checkpoint=resume_from_checkpoint, **kwargs)

    def _load_before_sharding(self, checkpoint: str) -> None:
        """The weights of a checkpoint that is whole, as transformers loads them into a model that is."""
        self.is_fsdp_enabled = False
        try:
            self._load_whole(checkpoint, self.model)
        finally:
            self.is_fsdp_enabled = True

    @torch.no_grad()
    def _load_whole(self, checkpoint: str, model) -> None:
        """transformers (5.17) looks for the tensors of the running model in the file, and passes over what is stored
        otherwise: the experts, which would begin again where the base has them."""
        if is_peft_model(model) or not stored_otherwise(model):
            super()._load_from_checkpoint(checkpoint, model)
            return
        saved = kept_tensors(type(model).from_pretrained(checkpoint, dtype=model.dtype))
        for name, tensor in kept_tensors(model).items():
            tensor.copy_(saved[name])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        if self.in_shards and is_in_shards(checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        elif not self.in_shards and not is_in_shards(checkpoint):
            self._load_whole(resume_from_checkpoint, self.model if model is None else model)
        elif not self.in_shards:
            model_from_shards(self.model, checkpoint)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or self.in_shards == is_in_shards(Path(checkpoint)):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        if self.in_shards:
            optimizer_into_shards(self.optimizer, Path(checkpoint))
        else:
            optimizer_from_shards(self.model, self.optimizer, Path(checkpoint))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    @contextlib.contextmanager
    def plain_policy(self, engine: Engine) -> Iterator[torch.nn.Module]:
        """The model for `engine` to take over. Adapters in shards are gathered for the time of the block, with their
        base where the engine takes them merged; other weights in shards the engine gathers as it takes them."""
        model = self.accelerator.unwrap_model(self.model)
        if not self.in_shards or not hasattr(model, "peft_config"):
            yield plain_model(model)
            return
        try:
            yield self._whole_copy.filled(model, trained_only=engine.adapter_rank is not None)
        finally:
            self._whole_copy.emptied()

    @contextlib.contextmanager
    def trained_weights(self) -> Iterator[torch.nn.Module | None]:
        """For the first process, the model with at least the weights that train whole; the others take part and get
        None."""
        model, leads = self.accelerator.unwrap_model(self.model), self.is_world_process_zero()
        if not self.in_shards:
            yield model if leads else None
            return
        try:
            yield self._whole_copy.filled(model, device="cpu", keep=leads, trained_only=True)
        finally:
            self._whole_copy.emptied()

    def whole_model(self, dtype: torch.dtype | None = None) -> torch.nn.Module | None:
        """The trained model as one process would have it, for the first process; the others take part and get None.

        `dtype` is a hint: weights that all are of one precision may be gathered in it.
        """
        model = self.accelerator.unwrap_model(self.model)
        if not self.in_shards:
            return model if self.is_world_process_zero() else None
        adapted = hasattr(model, "peft_config")
        return self._whole_copy.filled(
            model, None if adapted else dtype, device="cpu", keep=self.is_world_process_zero()
        )
