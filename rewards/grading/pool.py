"""Worker processes that can be killed, for scoring that cannot be trusted to end.

Each worker (`rewards.grading.worker`) is a supervisor with one child: the child does the work, the supervisor watches
its clock. The clock starts when the child starts an item, never while it waits in a queue. A child past its deadline,
out of memory or dead is killed and forked again from the supervisor, which has everything imported already, so a
replacement costs milliseconds. Results come back in the order of the jobs.

What a worker is protected against: time, memory, crashes, floods on standard output. Scorers that hand what a model
wrote to code of others get a child for each job (`Job.alone`), and no worker but those of a user's own reward
(`trusted`, which may need them) is given the keys and tokens of the environment. What a worker is not protected
against: it has the rights of the user, so programs that a model wrote go to `pipeline.sandbox`, never here.
"""

import atexit
import contextlib
import os
import pickle
import selectors
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.ranks import process_rank, processes_here
from pipeline.core.redaction import without_secrets
from rewards.grading.verifiers import Job

CHUNK = 16
"""Jobs sent to a worker at a time."""
MEMORY_BYTES = 2 << 30
"""Address space of a worker's child."""
TRIES = 2
"""Times that a job is handed out whose worker is killed meanwhile: the first time something else may have done it."""
SUPERVISOR_GRACE_S = 20.0
"""A supervisor that answers nothing for as long as a job may take, plus this, is itself taken for dead. Time for which
it was ready to run and others had the cores does not count: importing takes minutes on a machine that is busy enough.
"""


@dataclass(frozen=True)
class Outcome:
    """What became of one job."""

    value: Any = None
    """What the function returned."""
    failure: str | None = None
    """Why there is no value: past its deadline, the worker died, or the exception that was raised."""


class Worker:
    """One supervisor process, spoken to over its standard input and output in length-prefixed pickles."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, trusted: bool = False):
        root = str(Path(__file__).resolve().parents[2])
        paths = [root, *(path for path in sys.path if path and path != root)]
        environment = dict(os.environ) if trusted else without_secrets(os.environ)
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rewards.grading.worker", str(memory_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        os.set_blocking(self.process.stdout.fileno(), False)
        self.received = bytearray()
        self.heard = self.clock()
        """When, by its own clock, it was last given work or gave an outcome."""

    def clock(self) -> float:
        """Seconds that have passed for the supervisor; for one that is gone, for everybody."""
        try:
            return passed_for(self.process.pid)
        except FileNotFoundError:
            return time.monotonic()

    def send(self, jobs: Sequence[tuple[int, Job]]) -> None:
        self.heard = self.clock()
        frame = pickle.dumps(list(jobs))
        self.process.stdin.write(struct.pack("<Q", len(frame)) + frame)
        self.process.stdin.flush()

    def receive(self) -> list[tuple[int, Outcome]] | None:
        """The outcomes that have come in; None when the supervisor is gone."""
        while True:
            chunk = self.process.stdout.read(1 << 20)
            if chunk is None:
                break
            if not chunk:
                return None
            self.received += chunk
        outcomes = []
        while len(self.received) >= 8:
            (size,) = struct.unpack("<Q", self.received[:8])
            if len(self.received) < 8 + size:
                break
            outcomes.append(pickle.loads(self.received[8 : 8 + size]))
            del self.received[: 8 + size]
        self.heard = self.clock()
        return outcomes

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(BrokenPipeError):  # jobs that it died before reading are still in the buffer
            self.process.stdin.close()
        self.process.stdout.close()


def passed_for(pid: int) -> float:
    """A clock of seconds that pass for a process: without those for which it was ready to run and others had the cores,
    so that a busy machine costs no verdict."""
    with open(f"/proc/{pid}/schedstat") as file:
        waited_ns = int(file.read().split()[1])
    return time.monotonic() - waited_ns / 1e9


def _share_of_cores() -> int:
    """One worker a core. Of several processes on one machine the first judges what all have sampled, so it may use them
    all; the others score their own rollouts alone."""
    cores = len(os.sched_getaffinity(0))
    return cores if process_rank() == 0 else max(1, cores // processes_here())


class Pool:
    """A fixed number of workers, started on first use. Safe to call from several threads; one batch runs at a time."""

    def __init__(self, workers: int | None = None, memory_bytes: int = MEMORY_BYTES, trusted: bool = False):
        """`trusted` workers run a user's own reward, with the whole environment."""
        self.size = workers or _share_of_cores()
        self.memory_bytes, self.trusted = memory_bytes, trusted
        self._workers: list[Worker] = []
        self._lock = threading.Lock()

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Do all `jobs`; one outcome each, in their order. Never raises for what a job does."""
        with self._lock:
            try:
                return self._run(jobs)
            except BaseException:
                self._close_workers()
                raise

    def pids(self) -> list[int]:
        """The supervisors' process ids; each has at most one child."""
        return [worker.process.pid for worker in self._workers]

    def close(self) -> None:
        with self._lock:
            self._close_workers()

    def _close_workers(self) -> None:
        while self._workers:
            self._workers.pop().close()

    def _run(self, jobs: Sequence[Job]) -> list[Outcome]:
        outcomes: list[Outcome | None] = [None] * len(jobs)
        losses = [0] * len(jobs)
        waiting = deque(range(len(jobs)))
        running: dict[Worker, deque[int]] = {}
        while len(self._workers) < min(self.size, len(jobs)):
            self._workers.append(Worker(self.memory_bytes, self.trusted))
        chunk = max(1, min(CHUNK, len(jobs) // (4 * self.size)))
        with selectors.DefaultSelector() as selector:
            for worker in self._workers:
                selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
            while waiting or running:
                for worker in [worker for worker in self._workers if worker not in running]:
                    taken = deque(waiting.popleft() for _ in range(min(chunk, len(waiting))))
                    if taken:
                        running[worker] = taken
                        self._send(worker, [(index, jobs[index]) for index in taken])
                patience = TRIES * max(jobs[taken[0]].deadline_s for taken in running.values()) + SUPERVISOR_GRACE_S
                ready = [key.data for key, _ in selector.select(patience)]
                dead = [] if ready else [one for one in running if one.clock() - one.heard >= patience]
                for worker in ready or dead:
                    received = worker.receive() if ready else None
                    if received is not None:
                        for index, outcome in received:
                            outcomes[index] = outcome
                            running[worker].remove(index)
                        if not running[worker]:
                            del running[worker]
                        continue
                    lost = running.pop(worker, deque())
                    if lost:
                        losses[lost[0]] += 1
                        if losses[lost[0]] == TRIES:
                            outcomes[lost.popleft()] = Outcome(failure=f"the scoring process died {TRIES} times")
                    waiting.extendleft(reversed(lost))
                    self._replace(worker, selector)
        return outcomes

    def _send(self, worker: Worker, jobs: list[tuple[int, Job]]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the selector reports it, and the jobs are handed out again
            worker.send(jobs)

    def _replace(self, worker: Worker, selector: selectors.BaseSelector) -> None:
        selector.unregister(worker.process.stdout)
        worker.close()
        replacement = Worker(self.memory_bytes, self.trusted)
        self._workers[self._workers.index(worker)] = replacement
        selector.register(replacement.process.stdout, selectors.EVENT_READ, replacement)


_shared: tuple[int, Pool] | None = None
_shared_lock = threading.Lock()


def shared() -> Pool:
    """The process's own pool, one worker a core; a forked process gets a new one."""
    global _shared
    with _shared_lock:
        if _shared is None or _shared[0] != os.getpid():
            _shared = (os.getpid(), Pool())
            atexit.register(_shared[1].close)
        return _shared[1]
