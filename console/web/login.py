"""Asks each request who it is, by HTTP basic authentication."""

import hmac

from flask import Flask, Response, request

from console.settings import ConsoleSettings

#: What load balancers and supervisors ask, who have no password.
_OPEN = {"ready"}


def install(app: Flask, settings: ConsoleSettings) -> None:
    """Let in who knows the password, to everything but the health endpoint."""
    wanted = (settings.console_user, settings.console_password.get_secret_value())

    @app.before_request
    def ask() -> Response | None:
        if request.endpoint in _OPEN:
            return None
        shown = request.authorization
        given = (shown.username, shown.password) if shown and shown.type == "basic" else ("", "")
        # Both, whatever the first one says: the time tells nothing.
        matches = [_same(mine, theirs) for mine, theirs in zip(wanted, given, strict=True)]
        if all(matches):
            return None
        headers = {"WWW-Authenticate": 'Basic realm="orders console", charset="UTF-8"'}
        return Response("log in\n", 401, headers, content_type="text/plain")


def _same(mine: str, theirs: str | None) -> bool:
    return hmac.compare_digest(mine.encode(), (theirs or "").encode(errors="replace"))
