"""Requests that granian has read, each passed to a WSGI app in the thread where it starts."""

import io
import logging
import sys
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

from flask import Flask
from granian._granian import CallbackScheduler

from common.http import edge, streams
from common.http.bodies import Bodies
from common.http.streams import Stream

log = logging.getLogger(__name__)

_REASONS = MappingProxyType(
    {
        HTTPStatus.BAD_REQUEST: "The body is not complete.",
        HTTPStatus.REQUEST_TIMEOUT: "The body did not arrive in time.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is too large.",
    }
)

_LENGTH, _CHUNKED = "CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"


class Inline:
    """A replacement for an event loop that calls back immediately, in the calling thread."""

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Any = None) -> None:
        """Call the callback."""
        del context
        callback(*args)

    call_soon_threadsafe = call_soon


class Requests(CallbackScheduler):
    """A scheduler that passes each request to the app, in the thread in which granian starts it."""

    def __init__(self, _loop: Inline, app: Flask, *_: None) -> None:
        """The other arguments, which granian's class has, are unused."""
        super().__init__()
        self._app = app
        self._limit: int = app.config["MAX_CONTENT_LENGTH"]
        self._bodies = Bodies()
        #: Whether each response announces that its connection will be closed.
        self.ends = False
        self._schedule_fn = self._begin

    def end(self) -> None:
        """Announce in each response that its connection will be closed, and close event streams."""
        self.ends = True
        streams.end(self._app)

    def watch(self) -> None:
        """Start limiting the time of bodies; must be called after the last fork."""
        self._bodies.watch()

    def _begin(self, arrived: Any) -> None:
        scope, protocol = arrived.scope, arrived.proto
        environ = _environ(scope)
        answer = partial(self._answer, protocol, environ)
        length = _length(environ)
        if length == 0 or not self._needs_body(environ, length):
            answer(b"")
        else:
            self._bodies.receive(protocol, length=length, limit=self._limit, done=answer)

    def _needs_body(self, environ: edge.Variables, length: int | None) -> bool:
        if edge.REFUSAL in environ or (length or 0) > self._limit:
            return False
        return edge.admits(self._app, environ)

    def _answer(self, protocol: Any, environ: edge.Variables, body: bytes | HTTPStatus) -> None:
        if isinstance(body, HTTPStatus):
            edge.refuse(environ, body, _REASONS[body], "body")
            body = b""
        # A body that was skipped must not be treated as empty.
        environ.setdefault("wsgi.input", io.BytesIO(body))
        response = _Response()
        try:
            chunks = self._app(environ, response)
            if isinstance(chunks, Stream):
                chunks.begin(protocol, response.status, response.headers)
                return
            content = b"".join((*response.written, *chunks))
            if hasattr(chunks, "close"):
                chunks.close()
        except Exception:
            log.exception("application failed")
            protocol.response_bytes(500, [], b"")
            return
        if self.ends or edge.REFUSAL in environ:
            response.headers.append(("Connection", "close"))
        protocol.response_bytes(response.status, response.headers, content)


class _Response:
    """WSGI's `start_response`, which records its arguments."""

    __slots__ = ("headers", "status", "written")

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def __call__(
        self, status: str, headers: list[tuple[str, str]], _error: Any = None, /
    ) -> Callable[[bytes], object]:
        self.status = int(status[:3])
        self.headers = list(headers)
        return self.written.append


def _environ(scope: Any) -> edge.Variables:
    headers = scope.headers
    environ = edge.variables(headers.items())
    if _CHUNKED in environ and _LENGTH in environ:
        edge.refuse(environ, HTTPStatus.BAD_REQUEST, "The length of the body is ambiguous.")
    if "HTTP_HOST" not in environ and scope.http_version != "1":
        edge.refuse(environ, HTTPStatus.BAD_REQUEST, "A header is missing.", "Host")
    server, client = scope.server.rpartition(":"), scope.client.rpartition(":")
    environ |= {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _characters(scope.path),
        "QUERY_STRING": _characters(scope.query_string),
        "SERVER_NAME": server[0],
        "SERVER_PORT": server[2],
        "SERVER_PROTOCOL": "HTTP/1.0" if scope.http_version == "1" else "HTTP/1.1",
        "REMOTE_ADDR": client[0].strip("[]"),
        "wsgi.errors": sys.stderr,
        "wsgi.input_terminated": True,
        "wsgi.multiprocess": False,
        "wsgi.multithread": True,
        "wsgi.run_once": False,
        "wsgi.url_scheme": scope.scheme,
        "wsgi.version": (1, 0),
    }
    # A header whose value is not ASCII is passed on with an empty value: present, but invalid.
    for name in set(headers.keys()).difference(name for name, _ in headers.items()):
        environ |= edge.variables([(name, "")])
    return environ


def _characters(text: str) -> str:
    """Return text in WSGI's form, in which each character stands for one byte."""
    return text.encode().decode("latin-1")


def _length(environ: edge.Variables) -> int | None:
    """Return the length of the body in bytes; None if it is chunked."""
    if _CHUNKED in environ:
        return None
    length = environ.get(_LENGTH, "0")
    # The server has verified that several lengths are equal.
    return int(length.partition(",")[0])
