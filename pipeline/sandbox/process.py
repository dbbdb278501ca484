"""Starting one sandboxed interpreter, watching its clock and output, and ending it."""

import contextlib
import functools
import marshal
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pipeline.sandbox.levels import SCRATCH, Level, SandboxError, interpreter, next_uid, wrapped
from pipeline.sandbox.seccomp import filter_program

STARTER = """
import marshal, os, sys
with os.fdopen(int(sys.argv[1]), "rb") as sent:
    CONFIG, codes = marshal.load(sent)
for code in codes:
    exec(code)
"""
START_S = 60.0
"""Seconds that an interpreter may take to start, before its own clock runs."""
READY = b"ready\n"
"""What `inside.py` writes to the control pipe when the walls stand."""
STDERR_BYTES = 4096
"""Bytes kept of what a program writes to standard error."""


@dataclass(frozen=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 5
    """CPU seconds a process."""
    wall_s: float = 10.0
    """Seconds from when the program starts; waiting for a place to run does not count."""
    memory_mb: int = 512
    """Address space a process, in MiB."""
    processes: int = 8
    """Processes and threads, the program itself included."""
    file_mb: int = 16
    """Size of a file, and of the scratch folder, in MiB."""
    output_kb: int = 1024
    """What the program may write to standard output, in KiB."""


class Ending(StrEnum):
    """How a program ended."""

    FINISHED = "finished"
    """By itself, with exit status 0."""
    FAILED = "failed"
    """By itself with another exit status, or by a signal (out of CPU seconds or memory among them)."""
    OUT_OF_TIME = "out of time"
    """Killed at its wall-clock limit."""
    TOO_MUCH_OUTPUT = "too much output"
    """Killed for writing more than it may."""


@dataclass(frozen=True)
class Run:
    """One program's run."""

    ending: Ending
    exit_code: int | None
    """As `subprocess` gives it; None where the program was killed for its time or output."""
    stdout: bytes
    stderr: str
    """The first `STDERR_BYTES` of it."""
    seconds: float
    """Wall clock from the start of the program."""


def run_at(level: Level, source: str, stdin: str = "", limits: Limits | None = None) -> Run:
    """Run a Python program on `stdin`. Raises `SandboxError` if the sandbox fails, never for what the program does."""
    limits = limits or Limits()
    with Started("program", {"source": source}, limits, level, stdin=stdin, keep_output=True) as started:
        return started.finish()


@functools.cache
def compiled(name: str) -> Any:
    """The code object of a file that runs in the sandbox."""
    path = Path(__file__).with_name(name)
    return compile(path.read_text(), name, "exec")


@contextlib.contextmanager
def memory_file(content: bytes) -> Iterator[int]:
    """A file descriptor to read `content` from."""
    descriptor = os.memfd_create("sandbox", 0)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


class Started:
    """A sandboxed interpreter that is running; as a context manager it ends with its block."""

    def __init__(
        self,
        role: str,
        config: dict[str, Any],
        limits: Limits,
        level: Level,
        stdin: str = "",
        keep_output: bool = False,
        pass_fds: tuple[int, ...] = (),
    ):
        self.limits, self.level, self.keep_output = limits, level, keep_output
        self.scratch = None if level is Level.BUBBLEWRAP else tempfile.mkdtemp(prefix="sandbox-")
        uid = next_uid()
        if self.scratch and uid is not None:
            os.chown(self.scratch, uid, uid)
        self.control, control_write = os.pipe()
        config = config | {
            "role": role,
            "keep_output": keep_output,
            "control_fd": control_write,
            "scratch": self.scratch or SCRATCH,
            "uid": uid,
            "harden": level is not Level.BUBBLEWRAP,
            "filter": None if level is Level.BUBBLEWRAP else filter_program(),
            "cpu_s": limits.cpu_s,
            "memory_bytes": limits.memory_mb << 20,
            "file_bytes": limits.file_mb << 20,
            "open_files": 64,
            "processes": limits.processes + (0 if uid is not None else 2),  # bubblewrap's own, with a namespace's count
        }
        codes = [compiled("inside.py")]
        codes += [] if role == "program" else [compiled("values.py"), compiled("remote.py")]
        sink = subprocess.PIPE if keep_output else subprocess.DEVNULL
        try:
            with (
                memory_file(stdin.encode(errors="surrogatepass")) as stdin_fd,
                memory_file(marshal.dumps((config, codes))) as sent_fd,
                memory_file(filter_program() or b"") as filter_fd,
            ):
                seccomp_fd = filter_fd if level is Level.BUBBLEWRAP and filter_program() else None
                command = [interpreter(), "-I", "-S", "-c", STARTER, str(sent_fd)]
                self.process = subprocess.Popen(
                    wrapped(level, command, limits.file_mb, seccomp_fd),
                    stdin=stdin_fd,
                    stdout=sink,
                    stderr=subprocess.PIPE,
                    env={"PATH": "/usr/bin:/bin", "HOME": SCRATCH, "LANG": "C.UTF-8"},
                    pass_fds=(sent_fd, control_write, *pass_fds, *([] if seccomp_fd is None else [seccomp_fd])),
                    start_new_session=True,
                )
        except BaseException:
            os.close(self.control)
            self._remove_scratch()
            raise
        finally:
            os.close(control_write)

    def __enter__(self) -> "Started":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        os.close(self.control)
        self._remove_scratch()

    def _remove_scratch(self) -> None:
        if self.scratch:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def kill(self) -> None:
        """End the interpreter and everything it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def finish(self) -> Run:
        """Wait for a program's end, or make it end at its limits."""
        output, errors, began = bytearray(), bytearray(), self.wait_ready()
        ending: Ending | None = None
        with selectors.DefaultSelector() as selector:
            for stream, kept in ((self.process.stdout, output), (self.process.stderr, errors)):
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, kept)
            while selector.get_map() and ending is None:
                left = began + self.limits.wall_s - time.monotonic()
                ready = selector.select(left) if left > 0 else []
                if not ready:
                    ending = Ending.OUT_OF_TIME
                for key, _ in ready:
                    chunk = os.read(key.fileobj.fileno(), 1 << 16)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.data is errors:
                        errors += chunk[: max(0, STDERR_BYTES - len(errors))]
                    else:
                        output += chunk
                        if len(output) > self.limits.output_kb << 10:
                            ending = Ending.TOO_MUCH_OUTPUT
        return self._ended(ending, bytes(output), bytes(errors), began)

    def _ended(self, ending: Ending | None, output: bytes, errors: bytes, began: float) -> Run:
        if ending is None:
            try:
                self.process.wait(max(0.1, began + self.limits.wall_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                ending = Ending.OUT_OF_TIME
        self.kill()
        code = self.process.returncode if ending is None else None
        ending = ending or (Ending.FINISHED if code == 0 else Ending.FAILED)
        return Run(ending, code, output, errors.decode(errors="replace"), time.monotonic() - began)

    def wait_ready(self) -> float:
        """Wait until the walls stand and the program is about to start; the time of that."""
        message = self.read_control(time.monotonic() + START_S, len(READY))
        if message != READY:
            self.kill()
            said = self.process.stderr.read(STDERR_BYTES).decode(errors="replace").strip()
            raise SandboxError(
                f"sandbox level {self.level} could not start an interpreter: {said or 'no reason given'}"
            )
        return time.monotonic()

    def read_control(self, until: float, size: int = 1 << 16) -> bytes:
        """What comes next on the control pipe, up to `size` bytes; empty at its end, or when the time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.control, selectors.EVENT_READ)
            ready = selector.select(max(0.0, until - time.monotonic()))
        return os.read(self.control, size) if ready else b""
