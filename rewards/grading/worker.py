"""The process behind `rewards.grading.pool`: a supervisor that never does risky work, and a child that does nothing
else.

`python -m rewards.grading.worker MEMORY_BYTES` reads chunks of jobs from standard input and writes each outcome to
standard output as soon as it is known. The child is forked from the supervisor, so that a killed one is replaced in
milliseconds with everything imported and warm; it may use MEMORY_BYTES of address space beyond what it starts with.
A job that is `alone` has a child of its own: nothing that it leaves behind meets another job. Neither process lets
others of the same user look into its memory, where tests and answers are.
"""

import contextlib
import ctypes
import gc
import importlib
import math
import os
import pickle
import resource
import select
import signal
import struct
import sys
from collections.abc import Callable
from typing import IO, Any

from rewards.grading.pool import Outcome, passed_for
from rewards.grading.verifiers import Job

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # children have it from here
    memory_bytes = int(sys.argv[1])
    requests, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    child = Child(memory_bytes, close_in_child=(requests, results))
    while (jobs := read_frame(requests)) is not None:
        for index, job in jobs:
            write_frame(results, (index, child.do(job)))
    child.kill()


class Child:
    """The forked process that runs jobs, and the supervisor's end of its pipes."""

    def __init__(self, memory_bytes: int, close_in_child: tuple[IO[bytes], ...]):
        self.memory_bytes = memory_bytes
        self.close_in_child = close_in_child
        self.pid: int | None = None
        self.prepared: set[str] = set()

    def do(self, job: Job) -> Outcome:
        """Run one job and wait for it no longer than its deadline.

        A child that was killed from outside (by the system, out of memory, or by hand) is replaced, and the job tried
        once more.
        """
        if job.alone:
            self.kill()
        outcome, killed = self.attempt(job)
        if killed:
            outcome, _ = self.attempt(job)
        if job.alone:
            self.kill()
        return outcome

    def attempt(self, job: Job) -> tuple[Outcome, bool]:
        """(the outcome, whether the child was killed before it gave one)."""
        self.prepare(job.function.partition(":")[0])
        if self.pid is None:
            self.fork()
        try:
            write_frame(self.requests, job)
            overdue = self.overdue(job)
            if overdue is not None:
                self.kill()
                return Outcome(failure=overdue), False
            outcome = read_frame(self.results)
        except (BrokenPipeError, EOFError):
            outcome = None
        if outcome is not None:
            return outcome, False
        ended = self.kill()
        return Outcome(failure=f"the scoring process died ({ended})"), ended == f"signal {signal.SIGKILL.value}"

    def overdue(self, job: Job) -> str | None:
        """Wait for the answer; what limit the child has passed, or None if the answer is there."""
        until, cpu_until = self.clock() + job.deadline_s, self.cpu_used() + (job.cpu_s or math.inf)
        while True:
            left = min(until - self.clock(), cpu_until - self.cpu_used())
            if select.select([self.results], [], [], max(left, 0.0))[0]:
                return None
            if self.clock() >= until:
                return f"past its deadline of {job.deadline_s:g} s"
            if self.cpu_used() >= cpu_until:
                return f"past its deadline of {job.cpu_s:g} CPU seconds"

    def clock(self) -> float:
        """Seconds that pass for the child."""
        return passed_for(self.pid)

    def cpu_used(self) -> float:
        """CPU seconds of the child so far."""
        with open(f"/proc/{self.pid}/stat") as file:
            user, system = file.read().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def prepare(self, module: str) -> None:
        """Import a scorer's module before any clock runs, so that every later child has it warm."""
        if module in self.prepared:
            return
        self.kill()
        prepare = getattr(importlib.import_module(module), "prepare", None)
        if prepare is not None:
            prepare()
        gc.freeze()  # what children share with this process stays shared: a collection would touch it all
        self.prepared.add(module)

    def fork(self) -> None:
        request_read, request_write = os.pipe()
        result_read, result_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(request_write)
            os.close(result_read)
            for stream in self.close_in_child:
                os.close(stream.fileno())
            serve(os.fdopen(request_read, "rb"), os.fdopen(result_write, "wb"), self.memory_bytes)
            os._exit(0)
        os.close(request_read)
        os.close(result_write)
        self.requests, self.results = os.fdopen(request_write, "wb"), os.fdopen(result_read, "rb", buffering=0)

    def kill(self) -> str:
        """End the child, and say how it had ended if it was dead already."""
        if self.pid is None:
            return "not running"
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        for stream in (self.requests, self.results):
            with contextlib.suppress(BrokenPipeError):  # a half-written request to a child that is gone
                stream.close()
        return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"


def serve(requests: IO[bytes], results: IO[bytes], memory_bytes: int) -> None:
    """The child's loop: one job at a time until the supervisor goes."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with open("/proc/self/statm") as file:
        in_use = int(file.read().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)  # a sandbox that this process starts sets its own below it
    resource.setrlimit(resource.RLIMIT_AS, (in_use + memory_bytes, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (job := read_frame(requests)) is not None:
        try:
            outcome = Outcome(value=resolve(job.function)(job.payload))
            frame = pickle.dumps(outcome)
        except MemoryError:
            os._exit(70)  # the heap may be in any state: let the supervisor start again
        except BaseException as error:
            frame = pickle.dumps(Outcome(failure=f"{type(error).__name__}: {str(error)[:2000]}"))
        results.write(struct.pack("<Q", len(frame)) + frame)
        results.flush()


def resolve(function: str) -> Callable[[Any], Any]:
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(module), name)


def read_frame(stream: IO[bytes]) -> Any:
    """The next pickled object, or None at the end of the stream."""
    header = read_exactly(stream, 8)
    if header is None:
        return None
    return pickle.loads(read_exactly(stream, *struct.unpack("<Q", header)) or b"")


def read_exactly(stream: IO[bytes], size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        part = stream.read(size - len(parts))
        if not part:
            return None
        parts += part
    return bytes(parts)


def write_frame(stream: IO[bytes], value: Any) -> None:
    frame = pickle.dumps(value)
    stream.write(struct.pack("<Q", len(frame)) + frame)
    stream.flush()


if __name__ == "__main__":
    main()
