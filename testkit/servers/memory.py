"""Directories in memory, for servers whose data need not survive.

On a disk, each queue and each database of a test costs several times as much: every change of a
quorum queue is synchronized, and a database has hundreds of files.
"""

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_MEMORY = Path("/dev/shm")

#: The prefix of the directories' names, and the suffix of the links beside them, each of which
#: points to the path of its directory's link.
_PREFIX, _BACK = "orders-", ".back"

#: Bytes that must be free: the servers of a worker use 300 million.
ROOM = 4_000_000_000


def in_memory(path: Path, room: int = ROOM) -> None:
    """Make `path` a link to a new directory in memory.

    Do nothing if the path exists, or if fewer than `room` bytes of memory are free. Directories
    whose links were deleted, for example with the checkout of a killed run, are deleted first.
    """
    _delete_abandoned()
    if path.is_symlink() or path.exists() or _free() < room:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_MEMORY))
    path.symlink_to(directory)
    # Created last, so that another run never takes the directory for abandoned.
    directory.with_suffix(_BACK).symlink_to(path.absolute())


def _delete_abandoned() -> None:
    for back in _MEMORY.glob(f"{_PREFIX}*{_BACK}"):
        directory = back.with_suffix("")
        # Another run may delete the same directory.
        with suppress(FileNotFoundError):
            if back.readlink().resolve() != directory.resolve():
                shutil.rmtree(directory, ignore_errors=True)
                back.unlink()


def _free() -> int:
    return shutil.disk_usage(_MEMORY).free if _MEMORY.is_dir() else -1
