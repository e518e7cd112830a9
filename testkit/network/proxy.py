"""A proxy between a process and its broker."""

import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Event as Flag
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Proxy:
    """A proxy that can hold back the data of either side."""

    def __init__(self, broker_port: int, host: str = "127.0.0.1") -> None:
        self._broker_port = broker_port
        self._responses, self._requests = Flag(), Flag()
        self._responses.set()
        self._requests.set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [Thread(target=self._accept)]
        self._threads[0].start()

    def hold_responses(self) -> None:
        """Hold back the broker's data, while the broker still receives everything."""
        self._responses.clear()

    def hold_requests(self) -> None:
        """Hold back the clients' data."""
        self._requests.clear()

    def release_responses(self) -> None:
        """Forward the held responses, and all later responses."""
        self._responses.set()

    def release(self) -> None:
        """Forward everything that is held, and all later data."""
        self._responses.set()
        self._requests.set()

    def cut(self) -> None:
        """Break every connection."""
        for side in self._sockets:
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def run(self, function: Callable[[], T], *, within: float = 60) -> T:
        """Return the result of a function that uses connections through the proxy.

        After `within` seconds, break every connection, so that the function ends, and raise
        `TimeoutError`.
        """
        with ThreadPoolExecutor(1) as pool:
            result = pool.submit(function)
            try:
                return result.result(within)
            except TimeoutError:
                self.cut()
                raise

    def stop(self) -> None:
        """Break every connection, and reject new connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.release()
        for thread in list(self._threads):
            self.cut()
            thread.join(timeout=10)
        for side in self._sockets:
            side.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._broker_port))
                except OSError:
                    # The broker is down; it may return.
                    client.close()
                    continue
                self._sockets += [client, server]
                for thread in (
                    Thread(target=self._copy, args=(client, server, self._requests)),
                    Thread(target=self._copy, args=(server, client, self._responses)),
                ):
                    self._threads.append(thread)
                    thread.start()

    def _copy(self, source: socket.socket, target: socket.socket, gate: Flag) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                gate.wait()
                target.sendall(data)
        for side in (source, target):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
