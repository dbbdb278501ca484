"""Work on foreign text, done in a process of its own with a limit on time, memory and what it gives.

The process is a fork of this one, so that nothing is imported anew; whatever the work does to memory is gone with it.
"""

import json
import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 1 << 30
"""Address space beyond what this process has."""


class OverLimit(Exception):
    """The work took too long, too much memory, or gave too much."""


class WorkFailed(Exception):
    """What the work raised: its kind and its message."""


def limited(work: Callable[[], str], cpu_s: int, characters: int) -> str:
    """What `work` gives. Raises `OverLimit` past `cpu_s` CPU seconds, `characters` or `MEMORY_BYTES`, and `WorkFailed`
    for whatever it raises."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reads)
            _answer(work, writes, cpu_s, characters)
        finally:
            os._exit(1)
    os.close(writes)
    with os.fdopen(reads, "rb") as answers:
        said = answers.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        took = {signal.SIGXCPU: f"more than {cpu_s} s", signal.SIGKILL: f"more than {cpu_s} s, or was killed"}
        raise OverLimit(took.get(os.WTERMSIG(status), f"its process with it (signal {os.WTERMSIG(status)})"))
    kind, text = json.loads(said) if said else ("over", "more memory than it may")
    if kind == "over":
        raise OverLimit(text)
    if kind == "failed":
        raise WorkFailed(text)
    return text


def _answer(work: Callable[[], str], writes: int, cpu_s: int, characters: int) -> None:
    """In the child: never returns to what called it."""
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    held = Path("/proc/self/statm")
    if held.is_file():
        in_use = int(held.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY_BYTES, in_use + MEMORY_BYTES))
    try:
        text = work()
        answer = ("done", text) if len(text) <= characters else ("over", f"{len(text):,} characters")
    except MemoryError:
        answer = ("over", "more memory than it may")
    except Exception as error:
        answer = ("failed", f"{type(error).__name__}: {error}"[:2000])
    with os.fdopen(writes, "wb") as pipe:
        pipe.write(json.dumps(answer).encode())
    os._exit(0)
