"""A mail server that does at each step of the dialogue what a test makes it do."""

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

#: Answers that are none: the server says nothing more, or closes the connection.
HANG = "hang"
DROP = "drop"


@dataclass(frozen=True)
class Slow:
    """An answer that comes after some seconds."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Endless:
    """Bytes that are repeated for as long as the client listens."""

    data: bytes
    pause: float = 0.0


Answer = str | Slow | Endless

#: What it answers at a step: always the same, or depending on the command, or the content's
#: Message-ID.
Answers = Mapping[str, Answer | Callable[[str], Answer]]

_GOOD: Answers = {
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
    """Serves any number of clients; `answers` may be changed while it does."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 50

    def __init__(self, answers: Answers, *, tls: ssl.SSLContext | None, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Conversation)
        self.answers = dict(_GOOD) | dict(answers)
        self.tls = tls
        self.stopped = threading.Event()
        #: The commands that came, and the Message-IDs of the contents, as they came.
        self.commands: list[str] = []
        self.contents: list[str] = []

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    @property
    def copies(self) -> Counter[str]:
        """How often each mail came."""
        return Counter(self.contents)

    def answer(self, step: str, text: str) -> Answer:
        """Return what is to be answered."""
        answer = self.answers.get(step, "500 what")
        return answer(text) if callable(answer) else answer

    def get_request(self) -> Any:
        """Accept a connection; a TLS handshake is its thread's work."""
        connection, peer = super().get_request()
        if self.tls:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, peer

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that went away."""


class _Conversation(socketserver.StreamRequestHandler):
    server: SmtpServer

    def handle(self) -> None:
        with suppress(OSError, EOFError):
            self._say("GREETING", "")
            while line := self.rfile.readline(2_000):
                command = line.decode("utf-8", "replace").strip()
                self.server.commands.append(command)
                self._answer(command)

    def finish(self) -> None:
        """Close what STARTTLS has made of the connection, too."""
        with suppress(OSError):
            super().finish()
        self.request.close()

    def _answer(self, command: str) -> None:
        step = command.split()[0].upper().split(":")[0] if command else ""
        said = self._say(step, command)
        if step == "STARTTLS" and said.startswith("220"):
            self._encrypt()
        elif step == "DATA" and said.startswith("354"):
            self._take_content()
        elif step == "QUIT" or said.startswith("421"):
            raise EOFError

    def _take_content(self) -> None:
        if self.server.answer("READING", "") == HANG:
            self._pause(3_600)
        content = b""
        while not (content == b".\r\n" or content.endswith(b"\r\n.\r\n")):
            if not (line := self.rfile.readline()):
                raise EOFError
            content += line
        found = re.search(rb"(?im)^Message-ID:\s*(\S+)", content)
        name = found[1].decode() if found else ""
        self.server.contents.append(name)
        self._say("CONTENT", name)

    def _encrypt(self) -> None:
        assert self.server.tls is None
        context: Any = self.server.answers["TLS"]
        self.request = context.wrap_socket(self.connection, server_side=True)
        self.setup()

    def _say(self, step: str, text: str) -> str:
        answer = self.server.answer(step, text)
        if isinstance(answer, Endless):
            self._go_on(answer)
        if isinstance(answer, Slow):
            self._pause(answer.seconds)
            answer = answer.text
        if answer == HANG:
            self._pause(3_600)
        if answer in (DROP, HANG) or not isinstance(answer, str):
            raise EOFError
        self.wfile.write(f"{answer}\r\n".encode("latin-1"))
        return answer

    def _go_on(self, answer: Endless) -> None:
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
    """Run a mail server for the block."""
    with SmtpServer(answers or {}, tls=tls, port=port) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()
