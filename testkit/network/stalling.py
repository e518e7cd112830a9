"""A proxy that stops forwarding, as a failing network or broker does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


class StallingProxy:
    """A proxy that forwards bytes between its clients and a server until it stalls."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._forwarding = Event()
        self._forwarding.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    @classmethod
    @contextmanager
    def to(cls, server_port: int) -> "Iterator[StallingProxy]":
        """Forward during the block."""
        proxy = cls(server_port)
        try:
            yield proxy
        finally:
            proxy._listener.close()
            proxy._forwarding.set()

    def stall(self) -> None:
        """Stop forwarding, but keep all connections open."""
        self._forwarding.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, target in ((client, server), (server, client)):
                    Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                self._forwarding.wait()
                target.sendall(received)
        for end in (source, target):
            end.close()
