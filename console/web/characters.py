"""Rejection of requests that contain NUL, which no database can look up or store."""

from collections.abc import Iterator

from flask import Flask, abort, request

from console.web.access import login
from console.web.csrf import CHANGING


def install(app: Flask) -> None:
    """Respond with 400 to such a request. Must be called before all other checks."""

    @app.before_request
    def check() -> None:
        if any("\0" in text for text in _texts()):
            abort(400, "The request contains NUL, which is not a character of any text.")


def _texts() -> Iterator[str]:
    yield request.path
    yield from request.cookies.values()
    for _, values in request.args.lists():
        yield from values
    if given := request.authorization:
        yield from (given.username or "", given.password or "")
    # A body of another client is not read.
    if request.method in CHANGING and login.admits(request.environ):
        for _, values in request.form.lists():
            yield from values
