"""Overload: who cannot be answered soon is told so at once, and when to come again.

Without it requests wait ever longer, until every client has given up and all work is for nobody.
"""

from collections.abc import Callable
from http import HTTPStatus
from threading import Lock

from flask import Flask, Response, current_app, g, request

from order_app.problems import problem
from order_app.settings import ApiSettings

#: Seconds after which a client may try again: the queue is worked off in less.
RETRY_AFTER = 1

_EXTENSION = "waiting_requests"


class _UnderWay:
    """Counts the requests of one process that have come and are not answered."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = Lock()

    def begin(self) -> None:
        with self._lock:
            self.count += 1

    def end(self) -> None:
        with self._lock:
            self.count -= 1


def measure(app: Flask, waiting: Callable[[], int]) -> None:
    """Let `waiting` tell how many requests wait in this process."""
    app.extensions[_EXTENSION] = waiting


def install(app: Flask, settings: ApiSettings) -> None:
    """Refuse requests while too many others wait; call it before whatever costs more.

    Each has a thread of its own at once, so that whatever it waits for, it waits in here.
    """
    under_way = _UnderWay()
    measure(app, lambda: under_way.count)

    def check() -> Response | None:
        # Who runs the API must see it in trouble, too.
        if request.blueprint == "probes":
            return None
        under_way.begin()
        g.under_way = True
        if current_app.extensions[_EXTENSION]() <= settings.api_queue_limit:
            return None
        return problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "Too many requests wait; try again soon.",
            headers={"Retry-After": str(RETRY_AFTER)},
        )

    def done(_error: BaseException | None) -> None:
        if g.pop("under_way", False):
            under_way.end()

    app.before_request(check)
    app.teardown_request(done)
