"""Tensors that are in shards over the processes of a run, as torch's FSDP2 makes them.

Two rules hold for whoever reads a weight of such a model outside its forward pass. It is a DTensor: `whole` gathers
it, in all processes at once and in the same order. And a layer that ran without a backward pass may have been left
gathered: `reshard` makes the parameters the optimizer's own again.
"""

import torch
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(model: torch.nn.Module) -> bool:
    return isinstance(model, FSDPModule)


def whole(tensor: torch.Tensor, dtype: torch.dtype | None = None) -> torch.Tensor:
    """The tensor without its gradient, gathered where it is in shards; floating-point numbers as `dtype`, cast before
    they travel. A plain tensor comes back as it is."""
    tensor = tensor.detach()
    if dtype is not None and tensor.is_floating_point():
        tensor = tensor.to(dtype)
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def split_like(tensor: torch.Tensor, example: torch.Tensor) -> torch.Tensor:
    """`tensor`, whole and the same in every process, in shards where `example` is; each process keeps its own part."""
    if not isinstance(example, DTensor):
        return tensor
    held = tensor.to(example.device)
    return distribute_tensor(held, example.device_mesh, example.placements, src_data_rank=None)


def reshard(model: torch.nn.Module) -> None:
    """Drops what forward passes have left gathered."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
