"""A process's place among those of its run, read from the environment. Importing this loads no torch."""

import os


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
    if process_count() == 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
