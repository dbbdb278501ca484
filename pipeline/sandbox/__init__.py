"""Running Python that a model wrote, where it can do no harm and cannot see what it is tested against.

Every run is a fresh interpreter (`-I -S`: the standard library, no site packages) with an empty environment, its own
scratch folder, and limits on CPU seconds, wall clock, memory, processes, file size, open files and output. What stands
around it depends on the level (`Level`); the machine's best is probed once.

Covered at the full level, `bubblewrap`:
- files: only the interpreter and the system's libraries are visible, read-only; the scratch folder is in memory, of
  limited size, and gone after the run;
- network: none, not even the host's loopback;
- other processes: invisible; nothing outlives the run; no way to trace or signal the host;
- the tests: expected output never enters the sandbox. Assertions run in a second sandbox, which gets plain data back
  from the program: values whose operators are patched, early exits and patched builtins pass nothing (`remote`);
- kernel surface: no new namespaces, mounts, tracing, keyrings or BPF, no memory that counts for no process, no sockets
  but those of the network namespace (`seccomp`).

At the weaker levels system calls are filtered as well, no program gains rights, and the memory of the process that
judges is closed to the program.

Not covered at any level: bugs of the kernel; side channels; a program that uses all it is allowed (memory is limited a
process, so the worst case is `memory_mb` × `processes`); the CPU cache and memory bandwidth that runs share.
The weaker levels leave out more; each says what.
"""

from pipeline.sandbox.assertions import run_assertions
from pipeline.sandbox.levels import Level, SandboxError
from pipeline.sandbox.probe import best_level, describe, require
from pipeline.sandbox.process import Ending, Limits, Run, run_at

__all__ = [
    "Ending",
    "Level",
    "Limits",
    "Run",
    "SandboxError",
    "best_level",
    "describe",
    "require",
    "run",
    "run_assertions",
]


def run(source: str, stdin: str = "", limits: Limits | None = None, level: Level | None = None) -> Run:
    """Run a Python program on `stdin`, at the machine's best level unless another is given.

    Raises `SandboxError` if the sandbox fails, never for what the program does.
    """
    return run_at(level or best_level(), source, stdin, limits)
