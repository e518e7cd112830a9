"""Asks each request who it is, by HTTP basic authentication."""

import hmac
from collections.abc import Mapping
from typing import Any

from flask import Flask, Response, request
from werkzeug.datastructures import Authorization

from console.settings import ConsoleSettings

#: What load balancers and supervisors ask, who have no password.
_OPEN = {"ready"}


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Let in who knows the password, to everything but the health endpoint."""

    @app.before_request
    def ask() -> Response | None:
        if request.endpoint in _OPEN:
            return None
        if _is_operator(settings, request.authorization):
            return None
        headers = {"WWW-Authenticate": 'Basic realm="orders console", charset="UTF-8"'}
        return Response("log in\n", 401, headers, content_type="text/plain")


def admits(settings: ConsoleSettings, environ: Mapping[str, Any]) -> bool:
    """Return whether a request comes with the password: without it its body is of no use."""
    return _is_operator(settings, Authorization.from_header(environ.get("HTTP_AUTHORIZATION")))


def _is_operator(settings: ConsoleSettings, shown: Authorization | None) -> bool:
    wanted = (settings.console_user, settings.console_password.get_secret_value())
    given = (shown.username, shown.password) if shown and shown.type == "basic" else ("", "")
    # Both, whatever the first one says: the time tells nothing.
    matches = [_same(mine, theirs) for mine, theirs in zip(wanted, given, strict=True)]
    return all(matches)


def _same(mine: str, theirs: str | None) -> bool:
    return hmac.compare_digest(mine.encode(), (theirs or "").encode(errors="replace"))
