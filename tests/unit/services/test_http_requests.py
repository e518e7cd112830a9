"""The server passes any text to an app, and never a skipped body as an empty one."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response, request

from common.http import edge
from common.http.requests import Inline, Requests
from order_app.http import problems
from order_app.http.json_body import BODY_LIMIT, JsonRequest

BODY = b'{"number": 1}'


class Protocol:
    """granian's protocol of one request, with a body that may be read."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.is_read = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.content = b""

    def __call__(self) -> "Protocol":
        self.is_read = True
        return self

    def add_done_callback(self, done: Callable[[object], None]) -> None:
        done(self)

    def result(self) -> bytes:
        return self._body

    def response_bytes(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.status, self.headers, self.content = status, dict(headers), content


class Access:
    """Access control that gives one result when a request arrives, and another in the app."""

    def __init__(self, *results: bool | Exception) -> None:
        self._results = list(results)

    def admits(self, _environ: Mapping[str, Any] | None = None) -> bool:
        result = self._results.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    def check(self) -> Response | None:
        return None if self.admits() else Response("no key", 401)


def an_app(access: Access) -> Flask:
    app = Flask("requests")
    app.request_class = JsonRequest
    app.config["MAX_CONTENT_LENGTH"] = BODY_LIMIT
    problems.install(app)
    edge.install(app, admits=access.admits)
    app.before_request(access.check)

    @app.post("/numbers")
    def number() -> Response:
        return Response(str(request.get_json()["number"]), 201)

    @app.post("/nothing")
    def nothing() -> Response:
        return Response("", 204)

    @app.get("/echo/<text>")
    def echo(text: str) -> Response:
        return Response(f"{text} {request.args['q']}")

    return app


def answer(
    app: Flask, method: str, path: str, query: str = "", headers: Mapping[str, str] | None = None
) -> Protocol:
    """Return the answered protocol of a request, with a body unless it is a GET."""
    length = {} if method == "GET" else {"content-length": str(len(BODY))}
    fields = {"host": "api", "content-type": "application/json"} | length | dict(headers or {})
    scope = SimpleNamespace(
        method=method,
        path=path,
        query_string=query,
        http_version="1.1",
        scheme="http",
        server="127.0.0.1:8000",
        client="127.0.0.1:50000",
        headers=fields,
    )
    protocol = Protocol(BODY)
    requests = Requests(Inline(), app, None, None, None)
    requests._begin(SimpleNamespace(scope=scope, proto=protocol))
    return protocol


def test_an_admitted_request_has_its_body() -> None:
    answered = answer(an_app(Access(True, True)), "POST", "/numbers")

    assert (answered.status, answered.content) == (201, b"1")
    assert "Connection" not in answered.headers


@pytest.mark.parametrize("first", [False, ConnectionResetError("stale connection")])
def test_a_request_that_is_admitted_late_is_refused_with_retry_after(
    first: bool | Exception,
) -> None:
    # Given a key that is new, or whose check failed, when the request arrives
    access = Access(first, True)

    # When the request is admitted in the app, without its body
    answered = answer(an_app(access), "POST", "/numbers")

    # Then the client is asked to repeat it on another connection
    assert not answered.is_read
    assert answered.status == 503
    assert answered.headers["Content-Type"] == problems.MEDIA_TYPE
    assert int(answered.headers["Retry-After"]) > 0
    assert answered.headers["Connection"] == "close"


def test_a_request_that_is_admitted_late_needs_no_body_that_is_not_read() -> None:
    answered = answer(an_app(Access(False, True)), "POST", "/nothing")

    assert answered.status == 204


def test_a_request_that_is_not_admitted_is_answered_without_its_body() -> None:
    answered = answer(an_app(Access(False, False)), "POST", "/numbers")

    assert (answered.status, answered.is_read) == (401, False)


def test_a_failed_check_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    answer(an_app(Access(ConnectionResetError("secret"), True)), "POST", "/numbers")

    (record,) = [r for r in caplog.records if r.message == "body skipped"]
    assert record.__dict__["exception"] == "ConnectionResetError"
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    "text", ["plain", "jürgen", "łukasz", "\N{EURO SIGN}", "\N{SNOWMAN}\N{GRINNING FACE}"]
)
def test_a_path_and_a_query_may_contain_any_text(text: str) -> None:
    app = an_app(Access(True))

    answered = answer(app, "GET", f"/echo/{text}", f"q={text}")

    assert (answered.status, answered.content.decode()) == (200, f"{text} {text}")
