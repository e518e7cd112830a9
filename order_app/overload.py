"""Overload: who cannot be answered soon is told so at once, and when to come again.

Without it requests wait ever longer in front of the API, until every client has given up and all
work is for nobody.
"""

from collections.abc import Callable
from http import HTTPStatus

from flask import Flask, Response, current_app, request

from order_app.problems import problem
from order_app.settings import ApiSettings

#: Seconds after which a client may try again: the queue is worked off in less.
RETRY_AFTER = 1

_EXTENSION = "waiting_requests"


def measure(app: Flask, waiting: Callable[[], int]) -> None:
    """Let `waiting` tell how many requests this process has taken in and not begun.

    Only the server knows; an app without one refuses nobody.
    """
    app.extensions[_EXTENSION] = waiting


def install(app: Flask, settings: ApiSettings) -> None:
    """Refuse requests while too many others wait; call it before whatever costs more."""

    def check() -> Response | None:
        waiting = current_app.extensions.get(_EXTENSION)
        # Who runs the API must see it in trouble, too.
        if waiting is None or request.blueprint == "probes":
            return None
        if waiting() <= settings.api_queue_limit:
            return None
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Too many requests wait; try again soon.",
            headers={"Retry-After": str(RETRY_AFTER)},
        )

    app.before_request(check)
