"""A way to the broker that stops carrying anything, as a network or a broker in trouble does."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


class StallingWay:
    """Carries bytes between clients of its port and a server, until it stalls."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._carries = Event()
        self._carries.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    @classmethod
    @contextmanager
    def to(cls, server_port: int) -> "Iterator[StallingWay]":
        """Carry for as long as the block lasts."""
        way = cls(server_port)
        try:
            yield way
        finally:
            way._listener.close()
            way._carries.set()

    def stall(self) -> None:
        """Carry nothing any more; all connections stay open."""
        self._carries.clear()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                for source, target in ((client, server), (server, client)):
                    Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while received := source.recv(65536):
                self._carries.wait()
                target.sendall(received)
        for end in (source, target):
            end.close()
