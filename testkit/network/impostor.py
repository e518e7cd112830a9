"""A server that presents a test's certificate, and has no other function."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

#: The request for TLS that PostgreSQL clients send first.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


class Impostor:
    """A server on 127.0.0.1 for AMQPS, HTTPS and PostgreSQL clients."""

    def __init__(self, key_and_certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(key_and_certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        #: The first bytes of each client that trusted the certificate, perhaps a password.
        self.received: list[bytes] = []
        Thread(target=self._serve, daemon=True).start()

    @classmethod
    @contextmanager
    def running(cls, key_and_certificate: Path) -> "Iterator[Impostor]":
        """Listen during the block."""
        impostor = cls(key_and_certificate)
        try:
            yield impostor
        finally:
            impostor._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.settimeout(5)
                if client.recv(8, socket.MSG_PEEK) == _SSL_REQUEST:
                    client.recv(8)
                    client.sendall(b"S")
                with self._context.wrap_socket(client, server_side=True) as trusted:
                    # A client may reject the certificate after the handshake, without sending data.
                    if data := trusted.recv(1000):
                        self.received.append(data)
