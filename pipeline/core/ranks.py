"""A process's place among those of its run, read from the environment. Importing this loads no torch."""

import os
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import LadderError

Result = TypeVar("Result")
GPUS = "LADDER_GPUS"
"""Holds CUDA_VISIBLE_DEVICES as the run was started with, for processes that take other GPUs than it."""


def process_count() -> int:
    """How many processes this run was started with."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """This process's number, from 0, over all machines."""
    return int(os.environ.get("RANK", "0"))


def processes_here() -> int:
    """How many of the run's processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rows_in_a_pass(batch: int, most: int, processes: int) -> int:
    """Rows that each of `processes` puts through the model at once: at most `most`, and passes make up the batch."""
    share = batch // processes
    return next(rows for rows in range(min(most, share), 0, -1) if share % rows == 0)


def default_device() -> str:
    """`cuda` where torch sees such a device, else `cpu`.

    The only place that looks: everything that computes gets its device passed in, and falls back to this one.
    """
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def use_one_gpu() -> None:
    """Hides all GPUs but the first from a process that is alone: libraries spread a model over all that they see.

    Call it before torch is imported.
    """
    os.environ.setdefault(GPUS, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    if process_count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]


def from_the_first(make: Callable[[], Result]) -> Result:
    """What `make()` gives in the first process, in every process; all call this together. It must be picklable.

    Raises what it raises there: LadderError and NotImplementedError in every process.
    """
    if process_count() == 1:
        return make()
    import torch.distributed as dist

    box = [None]
    if process_rank() == 0:
        try:
            box = [(None, make())]
        except (LadderError, NotImplementedError) as error:
            box = [(error, None)]
    dist.broadcast_object_list(box, src=0)
    error, result = box[0]
    if error is not None:
        raise error
    return result
