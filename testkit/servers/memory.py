"""Directories in memory, for servers whose data need not survive.

On a disk, each queue and each database of a test costs several times as much: every change of a
quorum queue is synchronized, and a database has hundreds of files.
"""

import shutil
import tempfile
from pathlib import Path

_MEMORY = Path("/dev/shm")

#: Bytes that must be free: the servers of a worker use 300 million.
ROOM = 4_000_000_000


def in_memory(path: Path, room: int = ROOM) -> None:
    """Make `path` a link to a new directory in memory.

    Do nothing if the path exists, or if fewer than `room` bytes of memory are free.
    """
    if path.is_symlink() or path.exists() or _free() < room:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(tempfile.mkdtemp(prefix="orders-", dir=_MEMORY))


def _free() -> int:
    return shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else -1
