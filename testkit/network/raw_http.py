"""HTTP at the level of bytes, for requests that client libraries do not send."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

ORDER = json.dumps(
    {
        "customer": {"email": "ann@example.com"},
        "currency": "EUR",
        "lines": [{"sku": "TEA", "quantity": 1, "unit_price": 1000}],
    }
)


@dataclass(frozen=True)
class Answer:
    """A complete response of a server."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def document(self) -> Any:
        """The body, decoded as JSON."""
        return json.loads(self.text)


class RawClient:
    """A client of one server that opens a connection for each request."""

    def __init__(self, port: int, key: str = "") -> None:
        self._port = port
        self._authorization = [f"Authorization: Bearer {key}"] if key else []

    def place(self, *headers: str, body: str = ORDER) -> Answer:
        """Place an order with additional headers, and return the response."""
        length = f"Content-Length: {len(body)}"
        with self.connected() as connection:
            connection.sendall(self.head("POST /orders", length, *headers) + body.encode())
            return answer(connection)

    def send(self, raw: bytes) -> Answer:
        """Send bytes, and return the response."""
        with self.connected() as connection:
            connection.sendall(raw)
            return answer(connection)

    def head(self, line: str, *headers: str, host: str = "Host: api") -> bytes:
        """Return the head of a request for JSON."""
        lines = [f"{line} HTTP/1.1", *([host] if host else []), *self._authorization]
        if not any(header.lower().startswith("content-type") for header in headers):
            lines.append("Content-Type: application/json")
        return "\r\n".join([*lines, *headers, "", ""]).encode()

    @property
    def address(self) -> tuple[str, int]:
        """The server's host and port."""
        return "127.0.0.1", self._port

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(self.address, timeout=60)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """Keep a connection open during the block."""
        with self.connect() as connection:
            yield connection


def answer(connection: socket.socket) -> Answer:
    """Read and return one response. Its status is 0 if the server closes the connection."""
    received = b""
    while b"\r\n\r\n" not in received:
        if not (more := connection.recv(65536)):
            return Answer(0)
        received += more
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", "0")):
        body += connection.recv(65536)
    return Answer(int(first.split()[1]), headers, body.decode())
