"""Faults of the disk under a run, told in words whichever library met them."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import LadderError, RunError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_SAID = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|os error (?:27|28|122)\b"
    r"|PytorchStreamWriter failed|inline_container\.cc.*unexpected pos"
)
"""What libraries that write past Python's file objects (safetensors, torch) say of a full disk."""


@contextmanager
def disk_faults_told(folder: Path) -> Iterator[None]:
    """Turns a full, read-only or failing disk into a RunError that says what to do; other errors pass."""
    try:
        yield
    except LadderError:
        raise
    except Exception as error:
        fault = disk_fault(error)
        if fault is None:
            raise
        free = shutil.disk_usage(folder).free / 2**20 if folder.exists() else 0
        raise RunError(
            f"{fault} ({free:.0f} MiB are free at {folder}). Mend that and run the same command to go on: what is "
            "finished is kept."
        ) from error


def disk_fault(error: BaseException | None) -> str | None:
    """What the disk refused, where that is what the error or one that caused it is about."""
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        if code in FULL or _SAID.search(str(error)):
            return f"The disk is full, or a file is larger than is allowed: {error}"
        if code in FORBIDDEN:
            return f"The disk or the permissions do not allow to write or read: {error}"
        if code == errno.EIO:
            return f"The disk failed: {error}"
        error = error.__cause__ or error.__context__
    return None
