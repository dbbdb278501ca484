"""The processes of one run, one a GPU: the first leads, the others follow.

They are started by `make STAGE PROCESSES=8`, or by whatever else sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and
MASTER_PORT, as torchrun and accelerate do. The leader runs the stages and writes the run's folder. What several can do
at once, such as training and sampling, it hands out:

    result = ctx.together(train, rows=rows)     # train(ctx, rows=rows) in every process, each with a context of its own

Followers wait in between. A process that fails ends, and whoever started the processes ends the others.
"""

import datetime
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

from pipeline.core.errors import RunError, first_line
from pipeline.core.ranks import process_count, process_rank, processes_here
from pipeline.core.stopping import raise_if_stopped
from pipeline.core.watchdog import beat

PATIENCE = datetime.timedelta(days=30)
"""How long a process waits for another. What takes too long is for the run's watchdog to say, not for the network."""
WAIT_S = 0.02
"""Seconds between two looks at whether the others are done."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "NCCL error", "process group watchdog")
"""What gloo and NCCL say when a process that they talk to is gone."""


class LostProcess(RunError):
    """Another process of the run has ended, and has reported why."""


class Crew:
    """The processes of a run, as one of them sees them. Made by `join`; `Crew()` is a process that is alone."""

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank, self.size = rank, size
        self._group = None
        self._inside = False

    @classmethod
    def join(cls) -> "Crew":
        """Meets the other processes, and gives this one its GPU.

        Raises RunError where this machine has fewer GPUs than processes.
        """
        crew = cls(process_rank(), process_count())
        if crew.size > 1:
            crew._meet()
        return crew

    def _meet(self) -> None:
        import torch
        import torch.distributed as dist

        gpus, place = torch.cuda.device_count(), int(os.environ.get("LOCAL_RANK", "0"))
        if gpus:
            if place >= gpus:
                raise RunError(
                    f"{processes_here()} processes were started on this machine, and torch sees {gpus} of its GPUs. "
                    f"Each process drives one: start {gpus} (PROCESSES={gpus}), or check CUDA_VISIBLE_DEVICES."
                )
            torch.cuda.set_device(place)
        dist.init_process_group("cpu:gloo,cuda:nccl" if gpus else "gloo", timeout=PATIENCE)
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)  # NCCL would keep a GPU busy with waiting

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def together(self, context: Any, function: Callable, arguments: dict[str, Any]) -> Any:
        """`function(context, **arguments)` in every process at once; returns what it gave in the leader, when all are
        done. `function` and what is in `arguments` must be picklable. Called from such a function it is a plain call,
        since every process is there already. Raises KeyboardInterrupt where it left off because of Ctrl-C."""
        if self.size == 1 or self._inside:
            result = function(context, **arguments)
            raise_if_stopped()
            return result
        self.send((function, arguments))
        return self._take_part(context, function, arguments)

    def follow(self, context: Any, around: Callable[[], AbstractContextManager] = nullcontext) -> None:
        """Takes part in what the leader does together, each inside `around()`, until it sends None."""
        while (task := self.receive()) is not None:
            with around():
                self._take_part(context, *task)

    def _take_part(self, context: Any, function: Callable, arguments: dict[str, Any]) -> Any:
        self._inside = True
        try:
            result = function(context, **arguments)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in LOST):
                raise
            raise self._lost(error) from error
        finally:
            self._inside = False
        self.gather(None)
        raise_if_stopped()
        return result

    def send(self, value: Any) -> None:
        """For the leader: hands a picklable value to the followers, who `receive` it."""
        if self.size > 1:
            self._exchange("broadcast_object_list", [value], src=0)

    def receive(self) -> Any:
        """For a follower: what the leader sends next. Raises LostProcess where the leader is gone."""
        box = [None]
        self._exchange("broadcast_object_list", box, src=0)
        return box[0]

    def gather(self, value: Any) -> list | None:
        """The values of all processes by rank, for the leader; None for a follower. Waits for
        all of them. Waiting does not trigger the watchdog; the slow process has its own."""
        if self.size == 1:
            return [value]
        self._wait()
        values = [None] * self.size if self.leads else None
        self._exchange("gather_object", value, values, dst=0)
        return values

    def _wait(self) -> None:
        import torch.distributed as dist

        try:
            everyone = dist.barrier(group=self._group, async_op=True)
            while not everyone.is_completed():
                beat()
                time.sleep(WAIT_S)
            everyone.wait()
        except RuntimeError as error:
            raise self._lost(error) from error

    def _exchange(self, operation: str, *arguments: Any, **options: Any) -> None:
        import torch.distributed as dist

        try:
            getattr(dist, operation)(*arguments, group=self._group, **options)
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> LostProcess:
        return LostProcess(
            f"Process {self.rank} of {self.size} lost another one, whose error says why ({first_line(error)}). What is "
            "finished is kept: run the same command to go on."
        )

    def leave(self) -> None:
        """Parts from the other processes, once all are done."""
        if self.size > 1:
            import torch.distributed as dist

            self._wait()
            dist.destroy_process_group()


def end_process(code: int) -> NoReturn:
    """Ends one of several processes with its exit code. Left to itself torch aborts where others are gone already."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
