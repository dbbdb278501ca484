"""Readable messages for disk faults, whichever library raised them."""

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import LadderError, RunError

MOST_SHOWN = 300
"""Characters that are quoted; an error about a whole folder lists every file."""
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
        code, said = error.errno if isinstance(error, OSError) else None, str(error)
        if code in FULL or _SAID.search(said):
            return f"The disk is full, or a file is larger than is allowed: {said[:MOST_SHOWN]}"
        if code in FORBIDDEN:
            return f"The disk or the permissions do not allow to write or read: {said[:MOST_SHOWN]}"
        if code == errno.EIO:
            return f"The disk failed: {said[:MOST_SHOWN]}"
        error = error.__cause__ or error.__context__
    return None
