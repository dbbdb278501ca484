"""Load sharded trainer checkpoints into a trainer whose model is whole, and the other way round.

Sharded ones are torch.distributed.checkpoint's: any number of processes can read what any other number has written.
"""

from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as shards
from accelerate.utils import is_peft_model
from peft import get_peft_model_state_dict, set_peft_model_state_dict
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from pipeline.core.shards import split_like

MODEL, OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"
"""accelerate's names of the folders of shards in a checkpoint."""
WHOLE_OPTIMIZER = "optimizer.pt"
"""transformers' name for the state of an optimizer that is whole."""


def is_in_shards(checkpoint: Path) -> bool:
    return (checkpoint / MODEL).is_dir()


def model_from_shards(model: torch.nn.Module, checkpoint: Path) -> None:
    """Load the weights into a whole model, or only its adapters if it has any."""
    if is_peft_model(model):
        state = get_peft_model_state_dict(model)
        _read(checkpoint / MODEL, {"model": state})
        set_peft_model_state_dict(model, state)
    else:
        once = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}  # tied weights by one name
        state = {name: tensor for name, tensor in model.state_dict().items() if name in once}
        _read(checkpoint / MODEL, {"model": state})  # in place


def optimizer_from_shards(model: torch.nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Load the state into the optimizer of a whole model."""
    state = {"optimizer": get_optimizer_state_dict(model, optimizer)}
    _read(checkpoint / OPTIMIZER, state)
    set_optimizer_state_dict(model, optimizer, state["optimizer"])


def optimizer_into_shards(optimizer: torch.optim.Optimizer, checkpoint: Path) -> None:
    """Load the state of a whole model's optimizer into a sharded model's, whose parameters have the same order."""
    state = torch.load(checkpoint / WHOLE_OPTIMIZER, map_location="cpu", weights_only=True)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, kept in state["state"].items():
        parameter = parameters[number]
        for name, value in kept.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                kept[name] = split_like(value, parameter)
    optimizer.load_state_dict(state)


def _read(folder: Path, state: dict[str, Any]) -> None:
    shards.load(state, storage_reader=shards.FileSystemReader(folder), no_dist=True)
