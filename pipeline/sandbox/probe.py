"""The strongest level that this machine gives, found by running a program at each, and whether that is enough."""

import functools

from pipeline.sandbox.levels import Level, SandboxError
from pipeline.sandbox.process import Ending, Limits, run_at


@functools.cache
def best_level() -> Level:
    """The strongest level that works here, found by running a program at each."""
    for level in Level:
        try:
            probe = run_at(level, "print(6 * 7)", limits=Limits(wall_s=60))
        except SandboxError:
            continue
        if probe.ending is Ending.FINISHED and probe.stdout == b"42\n":
            return level
    raise SandboxError("no sandbox level works: not even a program with resource limits could be run")


def require(allow_weak: bool = False) -> Level:
    """The level that code will run at. Raises `SandboxError` if it is weak and the profile does not allow that."""
    level = best_level()
    if level.full or allow_weak:
        return level
    raise SandboxError(
        f"code rewards need the sandbox level {Level.BUBBLEWRAP}, and this machine gives {level}. Install bubblewrap "
        "(apt-get install bubblewrap) where user namespaces are allowed, or say allow_weak_sandbox: true in the "
        "profile to run what the model writes with less protection"
    )


def describe() -> str:
    """One line for `make check`."""
    level = best_level()
    return f"{level} ({'full' if level.full else 'weak: training on code rewards needs allow_weak_sandbox: true'})"
