"""One child process of a worker: it handles one job after the other, isolated from the broker.

A job that crashes or hangs takes this process with it, and nothing else.
"""

import os
import pickle
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, NoReturn

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from celery.concurrency.prefork import process_destructor, process_initializer

#: Seconds for one read or write between a worker and a child. Both always read at once: a child
#: that does not has been stopped, and is given up.
_PIPE_LIMIT = 5

#: Seconds in which a child that is told to end exports its last spans.
END_LIMIT = 5.0

#: Signals that wait until a child that starts can deal with them.
_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


@dataclass(slots=True, eq=False)
class Job:
    """A call of `target`, and what is called in the worker with its result, or with its error."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    succeeded: Callable[[Any], None]
    failed: Callable[[BaseException], None]
    #: Seconds after which `SoftTimeLimitExceeded` is raised in it, and the process is killed.
    soft_limit: float | None
    hard_limit: float | None


class HandlerProcess:
    """A child process, as its worker sees it."""

    def __init__(self, app: Any, hostname: str, others: Iterable["HandlerProcess"]) -> None:
        """Fork. The child keeps no end of the connections of `others`."""
        ours, theirs = _pair()
        self._connection = ours
        self.job: Job | None = None
        self._started = 0.0
        self._lost: Exception | None = None
        with _blocked(*_SIGNALS):
            self.pid = os.fork()
            if self.pid == 0:
                for connection in (ours, *(other._connection for other in others)):
                    with suppress(OSError):
                        connection.close()
                _run(theirs, app, hostname)
        theirs.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when the job has ended, or the process."""
        return self._connection.fileno()

    def start(self, job: Job) -> None:
        """Begin a job; the process must be idle."""
        self.job = job
        self._started = time.monotonic()
        try:
            self._connection.send_bytes(pickle.dumps((job.target, job.args), protocol=-1))
        except OSError:
            # `end` reports it, as the connection is readable now.
            self.kill()

    def end(self, timeout: float | None = None) -> Callable[[], None] | None:
        """Return what settles the job that has ended; None if it has not after `timeout` seconds.

        Raises `EOFError` if the process has ended. `lost` tells why.
        """
        if timeout is not None and not self._connection.poll(timeout):
            return None
        try:
            is_success, value = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - ours
        except OSError as error:
            raise EOFError from error
        job, self.job = self.job, None
        if job is None:
            return None
        settle = job.succeeded if is_success else job.failed
        return lambda: settle(value)

    def check_limits(self) -> None:
        """Interrupt a job that is beyond its soft limit, and kill it beyond the hard one."""
        if self.job is None:
            return
        seconds = time.monotonic() - self._started
        if self.job.hard_limit and seconds > self.job.hard_limit:
            self._lost = TimeLimitExceeded(self.job.hard_limit)
            self.kill()
        elif self.job.soft_limit and seconds > self.job.soft_limit:
            # At each check: a process that has just started takes no notice. In a job only the
            # first one counts.
            os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """End the process at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def lost(self) -> Exception:
        """Close a process that has ended, or does so; returns why."""
        self._connection.close()
        self.kill_after(END_LIMIT)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"status {code}"
        return self._lost or WorkerLostError(f"the handler's process ended with {how}")

    def close(self) -> None:
        """Tell an idle process to end; does not wait."""
        self._connection.close()

    def kill_after(self, seconds: float) -> None:
        """Wait until the process has ended, and kill it if it has not after so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.01)
        self.kill()


class _Child:
    """The child's side: calls one job after the other until the worker closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_busy = False
        signal.signal(signal.SIGUSR1, self._interrupt)
        # A service manager may send it to every process: the worker decides when this one ends.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def serve(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                # Without a limit: the next job may come tomorrow.
                self._connection.poll(None)
                target, args = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - ours
                self._connection.send_bytes(pickle.dumps(self._call(target, args), protocol=-1))

    def _call(self, target: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
        try:
            self._is_busy = True
            try:
                return True, target(*args)
            finally:
                self._is_busy = False
        except Exception as error:
            return False, error

    def _interrupt(self, *_: object) -> None:
        # The job may have ended while the signal was on its way.
        if self._is_busy:
            self._is_busy = False
            raise SoftTimeLimitExceeded


@contextmanager
def _blocked(*signals: int) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pair() -> tuple[Connection, Connection]:
    ends = socket.socketpair()
    limit = _PIPE_LIMIT.to_bytes(8, "little") + bytes(8)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    ours, theirs = (Connection(end.detach()) for end in ends)
    return ours, theirs


def _run(connection: Connection, app: Any, hostname: str) -> NoReturn:
    status = os.EX_SOFTWARE
    try:
        process_initializer(app, hostname)
        _Child(connection).serve()
        status = os.EX_OK
    finally:
        # Never back into the worker's own code.
        process_destructor(os.getpid(), status)
        os._exit(status)
