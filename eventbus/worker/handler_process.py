"""A child process of a worker, which handles one job at a time, isolated from the broker.

A job that crashes or hangs ends only this process.
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

from eventbus.parent import exit_with

#: Timeout in seconds of one read or write between a worker and a child. Both sides always read
#: promptly, so a child that does not read is suspended, and is killed.
_PIPE_LIMIT = 5

#: Grace period of a child at shutdown, in seconds, in which it exports its last spans.
END_LIMIT = 5.0

#: Signals that are blocked until a starting child can handle them.
_SIGNALS = (signal.SIGUSR1, signal.SIGTERM)


@dataclass(slots=True, eq=False)
class Job:
    """A call to `target`, and the worker's callbacks for its result and its error."""

    target: Callable[..., Any]
    args: tuple[Any, ...]
    succeeded: Callable[[Any], None]
    failed: Callable[[BaseException], None]
    #: Seconds after which the job raises `SoftTimeLimitExceeded`, and the process is killed.
    soft_limit: float | None
    hard_limit: float | None


class HandlerProcess:
    """The worker's side of a child process."""

    def __init__(self, app: Any, hostname: str, others: Iterable["HandlerProcess"]) -> None:
        """Fork the child, which closes its copies of the connections of `others`."""
        ours, theirs = _pair()
        self._connection = ours
        self.job: Job | None = None
        self._started = 0.0
        self._lost: Exception | None = None
        worker = os.getpid()
        with _blocked(*_SIGNALS):
            self.pid = os.fork()
            if self.pid == 0:
                for connection in (ours, *(other._connection for other in others)):
                    with suppress(OSError):
                        connection.close()
                _run(theirs, app, hostname, worker)
        theirs.close()

    def fileno(self) -> int:
        """Return the descriptor that is readable when the job or the process has ended."""
        return self._connection.fileno()

    def start(self, job: Job) -> None:
        """Start a job; the process must be idle."""
        self.job = job
        self._started = time.monotonic()
        try:
            self._connection.send_bytes(pickle.dumps((job.target, job.args), protocol=-1))
        except OSError:
            # `end` reports the failure, because the connection is readable now.
            self.kill()

    def end(self, timeout: float | None = None) -> Callable[[], None] | None:
        """Return a callback that settles the finished job, or None after `timeout` seconds.

        Raises `EOFError` if the process has exited; `lost` returns the reason.
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

    def has_ended(self) -> bool:
        """Return whether the process has exited and the result of its job, if any, has been read.

        Its connection may still be open, in a process that the job has forked.
        """
        exited = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return exited is not None and not self._connection.poll(0)

    def check_limits(self) -> None:
        """Interrupt a job past its soft time limit; kill the process past its hard time limit."""
        if self.job is None:
            return
        seconds = time.monotonic() - self._started
        if self.job.hard_limit and seconds > self.job.hard_limit:
            self._lost = TimeLimitExceeded(self.job.hard_limit)
            self.kill()
        elif self.job.soft_limit and seconds > self.job.soft_limit:
            # The signal is sent at each check, because a starting process ignores it. During a job,
            # only the first signal has an effect.
            os.kill(self.pid, signal.SIGUSR1)

    def kill(self) -> None:
        """Kill the process immediately."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def lost(self) -> Exception:
        """Close a process that has exited or is exiting, and return the reason."""
        self._connection.close()
        self.kill_after(END_LIMIT)
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        ending = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"status {code}"
        return self._lost or WorkerLostError(f"the handler's process ended with {ending}")

    def close(self) -> None:
        """Make an idle process exit, without waiting for it."""
        self._connection.close()

    def kill_after(self, seconds: float) -> None:
        """Wait for the process to end, and kill it after `seconds`."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                return
            time.sleep(0.01)
        self.kill()


class _Child:
    """The child's side, which runs jobs one by one until the worker closes the connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._is_busy = False
        signal.signal(signal.SIGUSR1, self._interrupt)
        # These signals are ignored: a service manager may signal every process, but the worker
        # decides when its children end.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)

    def serve(self) -> None:
        with suppress(EOFError, OSError):
            while True:
                # This read has no timeout, because the child may be idle indefinitely.
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
        # The job may have ended before the signal arrived.
        if self._is_busy:
            self._is_busy = False
            raise SoftTimeLimitExceeded


@contextmanager
def _blocked(*signals: int) -> Iterator[None]:
    old_mask = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def _pair() -> tuple[Connection, Connection]:
    ends = socket.socketpair()
    limit = _PIPE_LIMIT.to_bytes(8, "little") + bytes(8)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    ours, theirs = (Connection(end.detach()) for end in ends)
    return ours, theirs


def _run(connection: Connection, app: Any, hostname: str, worker: int) -> NoReturn:
    status = os.EX_SOFTWARE
    try:
        # If the worker exits, no process stops a job that hangs or a child that is suspended.
        exit_with(worker, signal.SIGKILL)
        process_initializer(app, hostname)
        _Child(connection).serve()
        status = os.EX_OK
    finally:
        # The child must never return into the worker's code.
        process_destructor(os.getpid(), status)
        os._exit(status)
