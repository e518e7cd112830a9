"""A mail server whose reply at each step of the dialogue is defined by a test."""

import re
import socketserver
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

#: Instead of a reply, the server sends nothing more, or closes the connection.
HANG = "hang"
DROP = "drop"


@dataclass(frozen=True)
class Slow:
    """A reply after a delay in seconds."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Endless:
    """Bytes that are repeated until the client closes the connection."""

    data: bytes
    pause: float = 0.0


Answer = str | Slow | Endless

#: The reply at each step: a constant, or a function of the command or of the content's Message-ID.
Answers = Mapping[str, Answer | Callable[[str], Answer]]

_DEFAULT: Answers = {
    "GREETING": "220 ready",
    "EHLO": "250 here",
    "MAIL": "250 ok",
    "RCPT": "250 ok",
    "DATA": "354 go on",
    "READING": "",
    "CONTENT": "250 taken",
    "RSET": "250 ok",
    "QUIT": "221 bye",
}


class SmtpServer(socketserver.ThreadingTCPServer):
    """A server for any number of clients. `answers` may be changed while it runs."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 50

    def __init__(self, answers: Answers, *, tls: ssl.SSLContext | None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Conversation)
        self.answers = dict(_DEFAULT) | dict(answers)
        self.tls = tls
        self.stopped = threading.Event()
        #: The commands, and the Message-IDs of the contents, in the order of their arrival.
        self.commands: list[str] = []
        self.contents: list[str] = []

    @property
    def port(self) -> int:
        """The port of the server."""
        return int(self.server_address[1])

    @property
    def copies(self) -> Counter[str]:
        """The number of times that each email was received."""
        return Counter(self.contents)

    def answer(self, step: str, text: str) -> Answer:
        """Return the reply at a step."""
        answer = self.answers.get(step, "500 what")
        return answer(text) if callable(answer) else answer

    def get_request(self) -> Any:
        """Accept a connection; its thread performs the TLS handshake."""
        connection, peer = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, peer

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that have disconnected."""


class _Conversation(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        with suppress(OSError, EOFError):
            self._reply("GREETING", "")
            while line := self.rfile.readline(2_000):
                command = line.decode("utf-8", "replace").strip()
                self.server.commands.append(command)
                self._answer(command)

    def finish(self) -> None:
        """Close the connection, including the connection that STARTTLS has created."""
        with suppress(OSError):
            super().finish()
        self.request.close()

    def _answer(self, command: str) -> None:
        step = command.split()[0].upper().split(":")[0] if command else ""
        reply = self._reply(step, command)
        if step == "STARTTLS" and reply.startswith("220"):
            self._encrypt()
        elif step == "DATA" and reply.startswith("354"):
            self._take_content()
        elif step == "QUIT" or reply.startswith("421"):
            raise EOFError

    def _take_content(self) -> None:
        if self.server.answer("READING", "") == HANG:
            self._pause(3_600)
        content = b""
        while not (content == b".\r\n" or content.endswith(b"\r\n.\r\n")):
            if not (line := self.rfile.readline()):
                raise EOFError
            content += line
        header = re.search(rb"(?im)^Message-ID:\s*(\S+)", content)
        message_id = header[1].decode() if header else ""
        self.server.contents.append(message_id)
        self._reply("CONTENT", message_id)

    def _encrypt(self) -> None:
        assert self.server.tls is None
        context: Any = self.server.answers["TLS"]
        self.request = context.wrap_socket(self.connection, server_side=True)
        self.setup()

    def _reply(self, step: str, text: str) -> str:
        answer = self.server.answer(step, text)
        if isinstance(answer, Endless):
            self._repeat(answer)
        if isinstance(answer, Slow):
            self._pause(answer.seconds)
            answer = answer.text
        if answer == HANG:
            self._pause(3_600)
        if answer in (DROP, HANG) or not isinstance(answer, str):
            raise EOFError
        self.wfile.write(f"{answer}\r\n".encode("latin-1"))
        return answer

    def _repeat(self, answer: Endless) -> None:
        while not self.server.stopped.is_set():
            self.wfile.write(answer.data)
            time.sleep(answer.pause)

    def _pause(self, seconds: float) -> None:
        if self.server.stopped.wait(seconds):
            raise EOFError


@contextmanager
def serving(
    answers: Answers | None = None, *, tls: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[SmtpServer]:
    """Run a mail server during the block."""
    with SmtpServer(answers or {}, tls=tls, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
