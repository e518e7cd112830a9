"""A publisher of any bytes, which logs in over TLS, and writes frames without checking them."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from struct import pack, unpack_from

from testkit.servers.vhosts import Vhost
from testkit.wire.frames import (
    HEARTBEAT,
    METHOD,
    frame,
    long_string,
    method,
    publication,
    short_string,
    take,
)

#: Seconds to wait for the broker.
_TIMEOUT = 60.0

_CHANNEL = 1
_ACK, _NACK = (60, 80), (60, 120)


class Refused(Exception):
    """The broker has closed the channel or the connection, for the reason in the text."""


class WirePublisher:
    """A channel in confirm mode. Each message is confirmed or counted as refused."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._buffer = bytearray()
        self._tag = 0
        self._unconfirmed: set[int] = set()
        #: The number of messages that the broker rejected.
        self.refused = 0
        self.frame_max = 0

    def publish(self, exchange: str, key: str | bytes, properties: bytes, body: bytes) -> None:
        """Publish a message without waiting for its confirm; `properties` are flags and values."""
        self._tag += 1
        self._unconfirmed.add(self._tag)
        name = key.encode() if isinstance(key, str) else key
        self._sock.sendall(
            publication(
                exchange.encode(),
                name,
                properties,
                body,
                channel=_CHANNEL,
                frame_max=self.frame_max,
            )
        )

    def settle(self, *, at_most: int = 0) -> None:
        """Wait until at most `at_most` messages are unconfirmed. Raises `Refused`."""
        while len(self._unconfirmed) > at_most:
            self._take(*self._method())

    def open(self, user: str, password: str, vhost: str) -> None:
        """Log in with PLAIN, and open a channel in confirm mode."""
        self._sock.sendall(b"AMQP\0\0\x09\x01")
        self._expect(10, 10)
        login = long_string(f"\0{user}\0{password}".encode())[1:]
        start = pack(">I", 0) + short_string(b"PLAIN") + login + short_string(b"en_US")
        self._sock.sendall(method(0, 10, 11, start))
        tune = self._expect(10, 30)
        channels, self.frame_max, _ = unpack_from(">HIH", tune)
        self._sock.sendall(method(0, 10, 31, pack(">HIH", channels, self.frame_max, 0)))
        self._sock.sendall(method(0, 10, 40, short_string(vhost.encode()) + b"\0\0"))
        self._expect(10, 41)
        self._sock.sendall(method(_CHANNEL, 20, 10, short_string(b"")))
        self._expect(20, 11)
        self._sock.sendall(method(_CHANNEL, 85, 10, b"\0"))
        self._expect(85, 11)

    def _take(self, name: tuple[int, int], arguments: bytes) -> None:
        if name not in (_ACK, _NACK):
            raise Refused(_reason(name, arguments))
        tag, bits = unpack_from(">QB", arguments)
        settled = {t for t in self._unconfirmed if t <= tag} if bits & 1 else {tag}
        self._unconfirmed -= settled
        self.refused += len(settled) if name == _NACK else 0

    def _expect(self, class_id: int, method_id: int) -> bytes:
        name, arguments = self._method()
        if name != (class_id, method_id):
            raise Refused(_reason(name, arguments))
        return arguments

    def _method(self) -> tuple[tuple[int, int], bytes]:
        while True:
            while first := take(self._buffer):
                kind, _, payload = first
                if kind == METHOD:
                    class_id, method_id = unpack_from(">HH", payload)
                    return (class_id, method_id), payload[4:]
                if kind == HEARTBEAT:
                    self._sock.sendall(frame(HEARTBEAT, 0, b""))
            if not (data := self._sock.recv(64 * 1024)):
                raise Refused("the broker has closed the connection")
            self._buffer += data


@contextmanager
def wire_publisher(vhost: Vhost) -> Iterator[WirePublisher]:
    """Connect to a vhost as its administrator during the block."""
    context = ssl.create_default_context(cafile=str(vhost.ca_file))
    with (
        socket.create_connection(("127.0.0.1", vhost.amqp_port), timeout=_TIMEOUT) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        publisher = WirePublisher(sock)
        publisher.open(vhost.admin_user, vhost.admin_password, vhost.name)
        yield publisher


def _reason(name: tuple[int, int], arguments: bytes) -> str:
    closing = name in ((10, 50), (20, 40))
    text = (
        arguments[3 : 3 + arguments[2]].decode(errors="replace")
        if closing
        else repr(arguments[:80])
    )
    return f"method {name}: {text}"
