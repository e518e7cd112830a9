"""Authenticates each request, by HTTP basic authentication."""

import hmac
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, request
from werkzeug.datastructures import Authorization

from console.settings import ConsoleSettings

#: The endpoints of load balancers, supervisors and Prometheus, which have no password.
_OPEN = {"ready", "metrics.page"}


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Require the password for everything but the health and the metrics endpoint."""

    @app.before_request
    def authenticate() -> Response | None:
        if request.endpoint in _OPEN:
            return None
        if _is_operator(settings, request.authorization):
            return None
        headers = {"WWW-Authenticate": 'Basic realm="orders console", charset="UTF-8"'}
        return Response("log in\n", 401, headers, content_type="text/plain")


def admits(settings: ConsoleSettings, environ: Mapping[str, Any]) -> bool:
    """Return whether a request has the password: without it, its body is not needed."""
    return _is_operator(settings, Authorization.from_header(environ.get("HTTP_AUTHORIZATION")))


def _is_operator(settings: ConsoleSettings, login: Authorization | None) -> bool:
    expected = (settings.console_user, settings.console_password.get_secret_value())
    actual = (login.username, login.password) if login and login.type == "basic" else ("", "")
    # Both are compared, whatever the first result: the time reveals nothing.
    matches = [_is_same(first, second) for first, second in zip(expected, actual, strict=True)]
    return all(matches)


def _is_same(expected: str, actual: str | None) -> bool:
    return hmac.compare_digest(expected.encode(), (actual or "").encode(errors="replace"))
