"""Event streams (server-sent events): responses that stay open without occupying a thread."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from threading import Lock
from typing import Any

from flask import Flask, Response

#: Maximum number of open streams of one process. Each stream requires a connection, and memory for
#: the messages that its client has not read.
LIMIT = 200

#: Seconds after which a stream is closed. A browser then opens another stream. This repeats the
#: check of its login, and frees the messages that a stalled client has not read.
LIFETIME = 60.0

_EXTENSION = "event_streams"


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message, in full for a new stream, and as a change to the previous message."""

    whole: bytes
    change: bytes


class Stream:
    """The body of a response that stays open.

    `common.http.server` passes it a transport. A server without event streams iterates over it,
    and sends only the latest message.
    """

    def __init__(self, streams: "Streams") -> None:
        self._streams = streams

    def __iter__(self) -> Iterator[bytes]:
        """Yield the latest message, if any."""
        if message := self._streams.latest:
            yield message.whole

    def begin(self, protocol: Any, status: int, headers: list[tuple[str, str]]) -> None:
        """Send the head and the latest message, and leave the stream open."""
        # The result is awaited, so that a client that disconnects is not reported as the error of a
        # later message.
        disconnected = protocol.client_disconnect()
        opened = _Open(protocol.response_stream(status, headers), time.monotonic() + LIFETIME)
        disconnected.add_done_callback(lambda _future: self._streams.close(opened))
        self._streams.add(opened)


@dataclass(eq=False)
class _Open:
    #: The transport, or None if the stream is closed: granian closes the connection when no
    #: reference is left.
    transport: Any
    ends_at: float
    is_new: bool = True

    def send(self, message: Message) -> None:
        """Return immediately: messages that the client has not read are buffered by granian."""
        if transport := self.transport:
            transport.send_bytes(message.whole if self.is_new else message.change)
            self.is_new = False


@dataclass(eq=False)
class Streams:
    """The open streams of one process, all of which receive the same messages."""

    #: A function that is called when a stream is opened.
    opened: Callable[[], object]
    latest: Message | None = None
    _open: dict[_Open, None] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _is_ended: bool = False

    def install(self, app: Flask) -> None:
        """Close the streams when the server of an app stops."""
        app.extensions[_EXTENSION] = self

    def response(self) -> Response:
        """Return a response that stays open. Beyond `LIMIT`, the response rejects the stream."""
        if len(self) >= LIMIT or self._is_ended:
            # After a response with this status, a browser does not repeat the request, and the page
            # polls instead.
            return Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        # A proxy must not buffer the messages.
        headers = {"X-Accel-Buffering": "no"}
        return Response(
            Stream(self), headers=headers, mimetype="text/event-stream", direct_passthrough=True
        )

    def send(self, message: Message) -> None:
        """Send a message to every stream, and close the streams that have expired."""
        now = time.monotonic()
        with self._lock:
            self.latest = message
            for stream in list(self._open):
                if stream.ends_at <= now:
                    self._open.pop(stream, None)
                    stream.transport = None
                else:
                    stream.send(message)

    def add(self, stream: _Open) -> None:
        """Add a stream, which receives the latest message immediately."""
        with self._lock:
            if self._is_ended:
                stream.transport = None
                return
            self._open[stream] = None
            if self.latest:
                stream.send(self.latest)
        self.opened()

    def close(self, stream: _Open) -> None:
        """Close a stream."""
        with self._lock:
            self._open.pop(stream, None)
            stream.transport = None

    def end(self) -> None:
        """Close all streams, and open no more."""
        # The lock is not acquired, because a signal handler may have interrupted its owner.
        self._is_ended = True
        for stream in list(self._open):
            stream.transport = None
        self._open.clear()

    def __len__(self) -> int:
        """Return the number of open streams."""
        return len(self._open)


def end(app: Flask) -> None:
    """Close the streams of an app, if it has any."""
    if streams := app.extensions.get(_EXTENSION):
        streams.end()
