"""Passes the watchdog's stack dumps on to the terminal (standard output) and to the stage's log.

A process of its own, started by `pipeline.core.watchdog`, since a process whose native code holds Python's lock can say
nothing itself but the stacks that `faulthandler`'s C thread writes. Reads lines: `\\0phase NAME`, `\\0log PATH` (empty:
no file), and stack dumps. Ends with its standard input, so with the process that it speaks for.
"""

import sys
import time

TIMED_OUT = b"Timeout ("
"""What the C thread begins with: the only dump that is not announced by a log line."""


def main() -> None:
    phase, since, log = b"between phases", time.monotonic(), b""
    for line in iter(sys.stdin.buffer.readline, b""):
        if line.startswith(b"\0phase "):
            phase, since = line[7:].strip(), time.monotonic()
        elif line.startswith(b"\0log "):
            log = line[5:].strip()
        else:
            if line.startswith(TIMED_OUT):
                seconds = str(int(time.monotonic() - since)).encode()
                line = (
                    b"error: The run was stuck for " + seconds + b" s in the phase: " + phase + b". Native code holds "
                    b"Python's lock, so the process is ended. The last checkpoint is kept: run the same command to go "
                    b"on. Every thread:\n"
                )
            _tell(line, log)


def _tell(line: bytes, log: bytes) -> None:
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
    if log:
        with open(log, "ab") as file:
            file.write(line)


if __name__ == "__main__":
    main()
