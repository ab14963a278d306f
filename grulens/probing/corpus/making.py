"""What is being written beside its place, to be renamed when it is whole; and what is left of it.

A process that is killed while it writes leaves what it had written. Who wrote it stands in the
name, so that another process can tell what nobody will go on with, and delete it.
"""

from __future__ import annotations

import errno
import os
import shutil
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final
from uuid import uuid4

#: What a disk says that is full, and one that may not be written to.
FULL: Final = (errno.ENOSPC, errno.EDQUOT)
CLOSED: Final = (errno.EROFS, errno.EACCES, errno.EPERM)


def beside(place: Path) -> Path:
    """A name in the same folder that nobody else writes to.

    >>> beside(Path("parts/000001")).name.split("~")[0]
    '.000001'
    """
    return place.with_name(f".{place.name}~{_home()}~{os.getpid()}~{uuid4().hex[:8]}")


def unfinished(file: Path, name: str) -> bool:
    """Whether a file is what some process has begun to write beside the place of this name.

    >>> files = beside(Path("s/scan.json")), Path("s/.scan.json~")
    >>> [unfinished(file, "scan.json") for file in files]
    [True, False]
    """
    head, *rest = file.name.rsplit("~", 3)
    return head == f".{name}" and len(rest) == 3 and rest[1].isdecimal()


def sweep(folder: Path) -> None:
    """Delete what is left of writers that were killed: those of this machine that run no more.

    A folder whose place is taken by now is deleted whoever writes it: it will not be renamed.
    """
    for one in folder.glob(".*~*~*~*"):
        name, home, writer, _ = one.name[1:].rsplit("~", 3)
        dead = home == _home() and writer.isdecimal() and not _runs(int(writer))
        if one.is_dir():
            if dead or one.with_name(name).exists():
                shutil.rmtree(one, ignore_errors=True)
        elif dead:
            with suppress(OSError):
                one.unlink()


def unwritten(error: OSError) -> str:
    """Why something could not be written, and what to do about it.

    >>> unwritten(OSError(errno.ENOSPC, "No space left on device"))
    'No space left on device: make room, and do it again'
    >>> unwritten(PermissionError(errno.EACCES, "Permission denied"))
    'Permission denied: take a folder that may be written to'
    """
    # numpy says how much it wrote, and no reason
    if error.errno in FULL or (error.errno is None and "requested and" in str(error)):
        return f"{os.strerror(errno.ENOSPC)}: make room, and do it again"
    if error.errno in CLOSED:
        return f"{error.strerror}: take a folder that may be written to"
    return f"{error.strerror or error}"


@cache
def _home() -> str:
    """This machine, and the numbers of processes that mean the same here."""
    name = "".join(c if c.isalnum() else "-" for c in socket.gethostname())
    with suppress(OSError):
        return f"{name}-{Path('/proc/self/ns/pid').stat().st_ino}"
    return name


def _runs(writer: int) -> bool:
    """Whether a process of this machine runs; True where that cannot be known."""
    if os.name != "posix":
        return True
    try:
        os.kill(writer, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's
        return True
    return True
