"""AMQP over TLS, with a limit on each wait and connections that no message can terminate.

Importing this module makes kombu use these connections for each `amqps://` address that it opens
afterwards, including after a failover to another node. py-amqp limits neither writes (its socket
options have no effect on Python's TLS) nor waits (its timeout restarts with each frame, including
heartbeats). Here, every write has a limit, and every wait has a limit for its total time.
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

#: Seconds within which the broker must reply to a method. A reply takes milliseconds, or a few
#: seconds while a queue elects its leader. If a reply is missing, the connection is no longer
#: usable.
ANSWER_LIMIT = 15.0

#: Seconds within which the broker must accept a write. A broker that is short of memory or disk
#: space does not read from a connection that has published.
_WRITE_LIMIT = 10.0

#: Seconds within which the broker must close TLS.
_END_LIMIT = 1.0

#: Milliseconds until a peer that does not acknowledge data counts as lost. With py-amqp's default
#: of one second, each stall would cause a reconnect.
_SOCKET_SETTINGS = {socket.TCP_USER_TIMEOUT: 20_000}


class LimitedWait:
    """A channel or connection whose waits for replies are limited."""

    def wait(
        self,
        method: Any,
        callback: Any = None,
        timeout: float | None = None,
        returns_tuple: bool = False,
    ) -> Any:
        """Return the broker's reply, which is one of the methods `method`.

        Raises `TimeoutError` after `timeout` seconds, or after `ANSWER_LIMIT` if it is None. The
        connection must then be closed: the reply may still arrive, and would be mistaken for the
        reply to another method.
        """
        connection: _Connection | None = self.connection  # type: ignore[attr-defined]
        wait = super().wait  # type: ignore[misc]
        if connection is None:
            # This raises the error of a closed connection.
            return wait(method, callback, timeout, returns_tuple)
        outer_deadline = connection.answer_by
        limit = ANSWER_LIMIT if timeout is None else timeout
        connection.answer_by = min(outer_deadline, time.monotonic() + limit)
        try:
            return wait(method, callback, timeout, returns_tuple)
        finally:
            connection.answer_by = outer_deadline


class _Channel(LimitedWait, pyamqp.Channel):
    """A channel that does not decode the bodies of messages.

    py-amqp decodes a body with the encoding that its message names. Some of Python's decoders take
    minutes for a megabyte.
    """

    Message = frame_guard.GuardedMessage

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs | {"auto_decode": False})

    def dispatch_method(self, method: tuple[int, int], payload: bytes, content: Any) -> None:
        """Handle a method, but ignore deliveries to a closing channel: the broker requeues them."""
        if not (self.is_closing and method == spec.Basic.Deliver):
            super().dispatch_method(method, payload, content)


class _Connection(LimitedWait, pyamqp.Connection):
    """A connection with the frame guard below its parser, and a limit for each wait."""

    Channel = _Channel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Deadline of the current wait for a reply, by `time.monotonic()`.
        self.answer_by = inf
        defaults: dict[str, Any] = {
            "frame_handler": frame_guard.handler,
            "write_timeout": _WRITE_LIMIT,
            "socket_settings": _SOCKET_SETTINGS,
        }
        super().__init__(*args, **defaults | kwargs)

    def connect(self, callback: Any = None) -> Any:
        """Connect; raise `TimeoutError` after `connect_timeout` seconds without a reply."""
        result = super().connect(callback)
        # If an operation takes longer, it raises `TimeoutError` and ends the connection.
        self.transport.sock.settimeout(self.write_timeout)
        return result

    def collect(self) -> None:
        """Drop the connection, waiting only briefly for the broker."""
        if self._transport and self._transport.sock:
            self._transport.sock.settimeout(_END_LIMIT)
        super().collect()

    def drain_events(self, timeout: float | None = None) -> None:
        """Read until something is handled; raise `TimeoutError` after `timeout` seconds.

        During a wait for a reply, None means the time that remains of that wait's limit.
        """
        if self.answer_by != inf or timeout:
            deadline = min(self.answer_by, time.monotonic() + (inf if timeout is None else timeout))
            while not self.blocking_read(max(0.0, deadline - time.monotonic())):
                pass
        else:
            super().drain_events(timeout)


class Transport(pyamqp.SSLTransport):
    """The transport of `amqps://` addresses."""

    Connection = _Connection


TRANSPORT_ALIASES["amqps"] = f"{__name__}:{Transport.__name__}"
