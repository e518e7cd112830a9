"""Request bodies that are still arriving, with limits of time and size, and without a thread."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock, Thread
from typing import Any

#: The time limit for the arrival of a body is `_START` seconds, plus one second for each `_PACE`
#: bytes of its announced length, and at most `_LONGEST` seconds. Even a poor mobile connection is
#: faster.
_START = 5.0
_PACE = 16 * 1024
_LONGEST = 30.0

#: Maximum number of chunks of a body, each of which costs a wake-up of a thread.
_CHUNKS = 2_000

#: Maximum number of bodies that can arrive at the same time in one process. Beyond this number, the
#: oldest is refused, because an ordinary body takes milliseconds, and memory and connections are
#: limited.
_AT_ONCE = 500

#: Seconds between two checks of the deadlines.
_TICK = 0.5

#: A function that receives a body, or the status of a refusal: 408 if the body is slow, 400 if it
#: is incomplete, 413 if it is too large.
Done = Callable[[bytes | HTTPStatus], None]


@dataclass(eq=False, slots=True)
class _Body:
    protocol: Any
    limit: int
    done: Done
    deadline: float
    future: Any = None
    size: int = 0
    chunks: list[bytes] = field(default_factory=list)


class Bodies:
    """The arriving bodies of one process, over granian's RSGI protocol.

    `done` is called once for each body, with the complete body or with the status of a refusal.
    """

    def __init__(self) -> None:
        self._arriving: dict[_Body, None] = {}
        self._lock = Lock()

    def watch(self) -> None:
        """Start the thread that refuses slow bodies. Must be called after the last fork."""
        Thread(target=self._watch, name="http-bodies", daemon=True).start()

    def receive(self, protocol: Any, *, length: int | None, limit: int, done: Done) -> None:
        """Receive a body of `length` bytes, or a chunked body of at most `limit` bytes.

        Returns immediately, or after `done`.
        """
        announced = limit if length is None else length
        seconds = min(_START + announced / _PACE, _LONGEST)
        body = _Body(protocol, limit, done, time.monotonic() + seconds)
        self._begin(body)
        if length is None:
            protocol.__aiter__()
            self._next_chunk(body)
        else:
            self._await(body, protocol(), self._whole)

    def _whole(self, body: _Body) -> None:
        received = _result(body)
        if self._end(body):
            body.done(HTTPStatus.BAD_REQUEST if received is None else received)

    def _next_chunk(self, body: _Body) -> None:
        self._await(body, body.protocol.__anext__(), self._chunk)

    def _chunk(self, body: _Body) -> None:
        if chunk := _result(body):
            body.chunks.append(chunk)
            body.size += len(chunk)
            if body.size <= body.limit and len(body.chunks) < _CHUNKS:
                self._next_chunk(body)
                return
        if self._end(body):
            if body.size > body.limit:
                body.done(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            elif chunk or not _is_over(body.protocol):
                body.done(HTTPStatus.BAD_REQUEST)
            else:
                body.done(b"".join(body.chunks))

    def _await(self, body: _Body, future: Any, then: Callable[[_Body], None]) -> None:
        body.future = future
        future.add_done_callback(lambda _future: then(body))

    def _begin(self, body: _Body) -> None:
        with self._lock:
            self._arriving[body] = None
            is_full = len(self._arriving) > _AT_ONCE
            oldest = next(iter(self._arriving))
        if is_full:
            self._refuse(oldest)

    def _end(self, body: _Body) -> bool:
        """Return True to the first caller only: a body is either received or refused."""
        with self._lock:
            is_first = self._arriving.pop(body, body) is None
        # The future refers to its callback, and therefore to this body, so neither would ever be
        # freed.
        body.future = None
        return is_first

    def _refuse(self, body: _Body) -> None:
        future = body.future
        if self._end(body):
            body.done(HTTPStatus.REQUEST_TIMEOUT)
            if future is not None:
                future.cancel()

    def _watch(self) -> None:
        while True:
            time.sleep(_TICK)
            now = time.monotonic()
            with self._lock:
                slow = [body for body in self._arriving if body.deadline <= now]
            for body in slow:
                self._refuse(body)


def _result(body: _Body) -> bytes | None:
    try:
        return bytes(body.future.result())
    except BaseException:
        # The connection was lost, or the future was cancelled by a refusal.
        return None


def _is_over(protocol: Any) -> bool:
    """Return whether a chunked body is complete: it also ends when its connection is lost."""
    try:
        protocol.__anext__()
    except StopAsyncIteration:
        return True
    return False
