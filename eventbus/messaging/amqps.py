"""AMQP over TLS as every process uses it: each wait has a limit, and no message ends a connection.

Importing this module gives these connections to each `amqps://` address that kombu opens from then
on, after a switch to another node too. py-amqp limits neither a write (its options of the socket
have no effect on Python's TLS) nor any wait: the time that it counts begins again with each frame,
a heartbeat's too. Here the limit is for the write, and for the wait as a whole.
"""

import socket
import time
from math import inf
from typing import Any

from amqp import spec
from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES, pyamqp

from eventbus.messaging import frame_guard

__all__ = ["ANSWER_LIMIT", "Connection", "LimitedWait"]

#: Seconds that the broker has for the answer to a method: it takes milliseconds, and some seconds
#: while a queue elects its leader. A connection without an answer is of no use any more.
ANSWER_LIMIT = 15.0

#: Seconds that the broker has to take what is written. One that is short of memory or disk takes
#: nothing from a connection that has published.
_WRITE_LIMIT = 10.0

#: Seconds that the broker has for its end of TLS.
_END_LIMIT = 1.0

#: Milliseconds until a peer that acknowledges nothing is lost. py-amqp's own second would turn each
#: stall into a reconnect.
_SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 20_000}


class LimitedWait:
    """A channel, or a connection, that waits for an answer within a limit."""

    def wait(
        self,
        method: Any,
        callback: Any = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Return the broker's answer, one of the methods `method`.

        Raises `TimeoutError` after `timeout` seconds, `ANSWER_LIMIT` if it is None. The connection
        must be given up then: the answer may still come, and be taken for another one's.
        """
        connection: _Connection | None = self.connection  # type: ignore[attr-defined]
        waiting = super().wait  # type: ignore[misc]
        if connection is None:
            # It raises the error of a connection that is closed.
            return waiting(method, callback, timeout, returns_tuple)
        outer = connection.answer_by
        limit = ANSWER_LIMIT if timeout is None else timeout
        connection.answer_by = min(outer, time.monotonic() + limit)
        try:
            return waiting(method, callback, timeout, returns_tuple)
        finally:
            connection.answer_by = outer


class _Channel(LimitedWait, pyamqp.Channel):
    """A channel that leaves each body as the bytes that came.

    py-amqp decodes a body by the encoding that its message names. Some of Python's take minutes
    for a megabyte.
    """

    Message = frame_guard.GuardedMessage

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"auto_decode": False})

    def dispatch_method(self, method: tuple[int, int], payload: bytes, content: Any) -> None:
        """Handle a method; a delivery to a channel that closes is none: its message goes back."""
        if not (self.is_closing and method == spec.Basic.Deliver):
            super().dispatch_method(method, payload, content)


class _Connection(LimitedWait, pyamqp.Connection):
    """A connection with the guard below its parser, and a limit for each wait."""

    Channel = _Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: When the present wait for an answer ends, as of `time.monotonic()`.
        self.answer_by = inf
        defaults: dict[str, Any] = {
            "frame_handler": frame_guard.handler,
            "write_timeout": _WRITE_LIMIT,
            "socket_settings": _SOCKET_SETTINGS,
        }
        super().__init__(*args, **defaults | kwargs)

    def connect(self, callback: Any = None) -> Any:
        """Connect; raises `TimeoutError` after `connect_timeout` seconds without an answer."""
        connected = super().connect(callback)
        # What is not done in this time raises `TimeoutError`, and ends the connection.
        self.transport.sock.settimeout(self.write_timeout)
        return connected

    def collect(self) -> None:
        """Give the connection up, without the broker's answer if it has none."""
        if self._transport and self._transport.sock:
            self._transport.sock.settimeout(_END_LIMIT)
        super().collect()

    def drain_events(self, timeout: float | None = None) -> None:
        """Read until something was handled; raises `TimeoutError` after `timeout` seconds.

        Within a wait for an answer None stands for what is left of its limit.
        """
        if self.answer_by != inf or timeout:
            ends = min(self.answer_by, time.monotonic() + (inf if timeout is None else timeout))
            while not self.blocking_read(max(0.0, ends - time.monotonic())):
                pass
        else:
            super().drain_events(timeout)


class Transport(pyamqp.SSLTransport):
    """The transport of `amqps://` addresses."""

    Connection = _Connection


TRANSPORT_ALIASES["amqps"] = f"{__name__}:{Transport.__name__}"
