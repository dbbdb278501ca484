"""How well this machine can shut a program in, and the command that does it."""

import os
import secrets
import shutil
import sys
from enum import StrEnum
from pathlib import Path

SCRATCH = "/tmp"
"""The scratch folder, as the program sees it at the full level."""
FIRST_UID = 20_000
UIDS = 40_000
"""When the host process is root, each run gets a user id of its own from this range."""


class SandboxError(Exception):
    """The sandbox is not strong enough, or could not be started; never the fault of the program in it."""


class Level(StrEnum):
    """What stands between a program and the machine, strongest first."""

    BUBBLEWRAP = "bubblewrap"
    """Everything in the package's docstring. Needs the `bwrap` command (Debian package `bubblewrap`)."""
    NAMESPACES = "namespaces"
    """No network and no sight of other processes, by `unshare` of util-linux; files are as open as to the user, or to
    an unprivileged user where the host process is root."""
    LIMITS = "limits"
    """Resource limits, empty environment and scratch folder only: files, network and processes are as open as to the
    user, or to an unprivileged user where the host process is root. A process that leaves its group may outlive the
    run."""

    @property
    def full(self) -> bool:
        """Whether training on code rewards may start at this level without the profile's consent."""
        return self is Level.BUBBLEWRAP


def next_uid() -> int | None:
    """A user id for the next run, drawn so that two runs hardly ever share one; None where the host is not root."""
    return FIRST_UID + secrets.randbelow(UIDS) if os.geteuid() == 0 else None


def wrapped(level: Level, command: list[str], scratch_mb: int, seccomp_fd: int | None) -> list[str]:
    """`command` with what shuts it in. Raises `SandboxError` where the level's program is not installed."""
    if level is Level.LIMITS:
        return command
    program = shutil.which("bwrap" if level is Level.BUBBLEWRAP else "unshare")
    if program is None:
        raise SandboxError(
            f"sandbox level {level}: {'bwrap' if level is Level.BUBBLEWRAP else 'unshare'} is not installed"
        )
    if level is Level.NAMESPACES:
        user = [] if os.geteuid() == 0 else ["--user", "--map-current-user"]
        flags = ["--net", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [program, *user, *flags, "--", *command]
    seccomp = [] if seccomp_fd is None else ["--seccomp", str(seccomp_fd)]
    return [program, *bubblewrap_arguments(scratch_mb), *seccomp, "--", *command]


def bubblewrap_arguments(scratch_mb: int) -> list[str]:
    """The walls: a file system of the interpreter alone, new namespaces for all else."""
    arguments = [
        "--die-with-parent",
        "--new-session",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
    ]
    arguments += ["--unshare-cgroup-try", "--hostname", "sandbox", "--clearenv"]
    if os.geteuid() == 0:  # real root needs no user namespace; the program changes to its own user id before it starts
        arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    else:
        arguments += ["--unshare-user", "--disable-userns", "--cap-drop", "ALL"]
    for folder in ("/usr", "/lib", "/lib64", "/lib32", "/bin"):
        if os.path.islink(folder):
            arguments += ["--symlink", os.readlink(folder), folder]
        elif os.path.isdir(folder):
            arguments += ["--ro-bind", folder, folder]
    prefix = os.path.realpath(sys.base_prefix)
    if not Path(prefix).is_relative_to("/usr"):
        for parent in reversed(Path(prefix).parents[:-1]):  # bubblewrap would make them for its own user only
            arguments += ["--perms", "0755", "--dir", str(parent)]
        arguments += ["--ro-bind", prefix, prefix]
    arguments += ["--perms", "0755", "--dir", "/etc", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    arguments += ["--perms", "1777", "--size", str(scratch_mb << 20), "--tmpfs", SCRATCH, "--chdir", SCRATCH]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/"]


def interpreter() -> str:
    """The Python of this process outside any virtual environment, whose files the sandbox can see."""
    return os.path.realpath(sys.executable)
