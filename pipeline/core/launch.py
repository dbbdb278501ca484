"""Starts the processes of a run on this machine, one a GPU, with torch's own launcher."""

import logging
import os
import sys
import uuid
from collections.abc import Sequence

from pipeline.core.stopping import passing_interrupts_on

QUIET = ("torch.distributed.elastic", "torch.distributed.run", "torch.distributed.launcher")
"""Loggers that report each process that ends, which the process itself has reported in more detail."""


def launch(count: int, arguments: Sequence[str]) -> int:
    """Runs `python -m pipeline ARGUMENTS` in `count` processes, and gives the exit code: that of the first to fail.

    When one fails the others are ended. What the processes print is not touched.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in QUIET:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        signals_to_handle="SIGTERM,SIGHUP,SIGQUIT",  # not SIGINT: passing_interrupts_on has it
    )
    try:
        with passing_interrupts_on():
            elastic_launch(config, sys.executable)("-m", "pipeline", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode  # as a shell tells of a signal
    except SignalException as signalled:
        return 128 + signalled.sigval
    return 0
