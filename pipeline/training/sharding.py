"""Training models in shards: torch's FSDP2, through the arguments that transformers and accelerate have for it.

Each process holds its share of weights, gradients and optimizer; a layer is gathered for its forward pass and again for
its backward pass. So every process runs the same number of passes, in the same order: `aligned` makes numbers equal.
"""

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from accelerate import ParallelismConfig
from accelerate.state import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch.distributed.fsdp import CPUOffloadPolicy, MixedPrecisionPolicy

from pipeline.config.lora import LoRASettings
from pipeline.config.parallel import ParallelSettings
from pipeline.core.buffers import persistent_buffers
from pipeline.core.errors import ConfigError
from pipeline.core.ranks import process_count
from pipeline.core.shards import reshard, whole

Item = TypeVar("Item")


def shard_arguments(parallel: ParallelSettings, lora: LoRASettings | None) -> dict[str, Any]:
    """transformers' arguments for models in shards; none where they are not.

    Raises ConfigError for what is not trained in shards.
    """
    if not parallel.splits(process_count()):
        return {}
    if faults := parallel.faults(process_count(), {"this training": lora}):
        raise ConfigError("; ".join(faults))
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
            "state_dict_type": "SHARDED_STATE_DICT",
            "reshard_after_forward": True,
            "cpu_offload": parallel.offload,
        },
    }


def settle_sharding(trainer, parallel: ParallelSettings) -> None:
    """What accelerate leaves to be done for a trainer of models in shards, once it has its accelerator.

    accelerate turns its FSDP on for GPUs alone; would reduce gradients and give outputs in bfloat16 where that is the
    arithmetic, which rounds log-probabilities and what micro-batches add up to; and would keep whole gradients on each
    GPU until the last micro-batch of a step.
    """
    state = trainer.accelerator.state
    if getattr(state, "fsdp_plugin", None) is None:
        state.distributed_type = DistributedType.FSDP
        PartialState._shared_state["distributed_type"] = DistributedType.FSDP
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**trainer.args.fsdp_plugin_args)
        trainer.is_fsdp_enabled = True
    if parallel.copies > 1:
        shards = parallel.shards(process_count())
        state.parallelism_config = ParallelismConfig(dp_replicate_size=parallel.copies, dp_shard_size=shards)
        state.device_mesh = state.parallelism_config.get_device_mesh(trainer.accelerator.device.type)
    if parallel.offload and trainer.accelerator.device.type == "cpu":  # whose memory no GPU copies from
        state.fsdp_plugin.cpu_offload = CPUOffloadPolicy(pin_memory=False)
    halves = trainer.args.bf16 and parallel.gather == "bfloat16"
    state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if halves else None, reduce_dtype=torch.float32, output_dtype=None
    )
    trainer.accelerator.no_sync = lambda model=None: contextlib.nullcontext()


def sharded_reference(trainer) -> torch.nn.Module:
    """A frozen copy of the trainer's model, which is still whole, in shards by layers.

    TRL would make one group of the whole reference, and gather all of it for each pass.
    """
    reference = copy.deepcopy(trainer.model).requires_grad_(False).eval()
    return fsdp2_prepare_model(trainer.accelerator, reference)


def aligned(items: Sequence[Item], filler: Item, accelerator) -> list[Item]:
    """Pad `items` with `filler` to the length of the longest list of any process."""
    here = torch.tensor([len(items)], device=accelerator.device)
    most = int(accelerator.gather(here).max())
    return [*items, *[filler] * (most - len(items))]


class WholeCopy:
    """The structure of a model without its numbers, kept from before it was put in shards: filled, it is that model
    again, adapters included, for whatever takes a plain one."""

    def __init__(self, model: torch.nn.Module):
        empty = {
            id(parameter): torch.nn.Parameter(torch.empty_like(parameter, device="meta"), parameter.requires_grad)
            for parameter in model.parameters()
        }
        self._model = copy.deepcopy(model, dict(empty))
        names = {id(parameter): name for name, parameter in self._model.named_parameters()}
        self._places: dict[str, list[tuple[torch.nn.Module, str]]] = {name: [] for name in names.values()}
        for module in self._model.modules():
            for key, parameter in module._parameters.items():
                if parameter is not None:
                    self._places[names[id(parameter)]].append((module, key))

    @torch.no_grad()
    def filled(
        self,
        sharded: torch.nn.Module,
        dtype: torch.dtype | None = None,
        device: str | None = None,
        keep: bool = True,
        trained_only: bool = False,
    ) -> torch.nn.Module | None:
        """The model with the weights of `sharded`, as `dtype` and on `device` where these are given. All processes must
        call it; one that does not `keep` takes part and gets None. With `trained_only` frozen weights stay empty."""
        reshard(sharded)
        held = dict(sharded.named_parameters())
        for name, places in self._places.items():
            if trained_only and not held[name].requires_grad:
                continue
            gathered = whole(held[name], dtype)
            if keep:
                weight = torch.nn.Parameter(gathered.to(device or gathered.device), held[name].requires_grad)
                for module, key in places:
                    module._parameters[key] = weight
        for name, buffer in persistent_buffers(sharded) if keep else ():
            above, _, key = name.rpartition(".")
            self._model.get_submodule(above)._buffers[key] = buffer.detach().to(device or buffer.device, copy=True)
        return self._model if keep else None

    def emptied(self) -> None:
        """Frees the weights."""
        for places in self._places.values():
            module, key = places[0]
            weight = module._parameters[key]
            empty = torch.nn.Parameter(torch.empty_like(weight, device="meta"), weight.requires_grad)
            for module, key in places:
                module._parameters[key] = empty
