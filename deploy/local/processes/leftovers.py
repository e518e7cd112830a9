"""Processes that belong to a state directory, found and stopped by pid."""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from deploy.local.state import StateDirectory

#: Every process of a run inherits this variable, whose value is the run's state directory.
MARK = "ORDERS_STATE_DIR"

#: Seconds that a process has to exit before it is killed.
PATIENCE = 30.0


def find(state: StateDirectory) -> set[int]:
    """Return the pids of this run's processes and of their descendants."""
    # PostgreSQL's children overwrite their environment with their titles.
    return family({pid for pid in _pids() if _is_marked(pid, state)}) - {os.getpid()}


def family(pids: set[int]) -> set[int]:
    """Return these pids and those of their descendants."""
    children: dict[int, set[int]] = {}
    for pid in _pids():
        children.setdefault(_parent(pid), set()).add(pid)
    waiting = list(pids)
    members: set[int] = set()
    while waiting:
        pid = waiting.pop()
        if pid not in members:
            members.add(pid)
            waiting.extend(children.get(pid, ()))
    return members


def stop(state: StateDirectory) -> int:
    """Stop every process of this run and wait until all have exited; return their number.

    Safe against pids that are reused in the meantime.
    """
    handles = dict(_open(find(state)))
    running = set(handles)
    try:
        for number in (signal.SIGTERM, signal.SIGKILL):
            for handle in running:
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            running = _wait(running)
    finally:
        for handle in handles:
            os.close(handle)
    return len(handles)


def wait_for_end(pids: Iterable[int], seconds: float) -> bool:
    """Wait until these processes have exited; return whether all have."""
    handles = dict(_open(pids))
    try:
        return not _wait(set(handles), seconds)
    finally:
        for handle in handles:
            os.close(handle)


def _open(pids: Iterable[int]) -> Iterator[tuple[int, int]]:
    for pid in pids:
        with suppress(ProcessLookupError):
            yield os.pidfd_open(pid), pid


def _wait(handles: set[int], seconds: float = PATIENCE) -> set[int]:
    """Return the handles of the processes that are still running after `seconds`."""
    deadline = time.monotonic() + seconds
    running = set(handles)
    poller = select.poll()
    for handle in handles:
        poller.register(handle, select.POLLIN)
    while running and (left := deadline - time.monotonic()) > 0:
        for handle, _ in poller.poll(left * 1000):
            poller.unregister(handle)
            running.remove(handle)
    return running


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _parent(pid: int) -> int:
    with suppress(OSError):
        # The name, in brackets, may itself contain brackets and spaces.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _is_marked(pid: int, state: StateDirectory) -> bool:
    mark = f"{MARK}={state.path}".encode()
    with suppress(OSError):
        return mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return False
