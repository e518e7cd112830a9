"""Overload: a request that cannot be answered soon is refused at once, with the time to come again.

Without it requests wait ever longer, until every client has given up and all work is wasted.
"""

from collections.abc import Iterable
from http import HTTPStatus
from threading import Lock, Semaphore
from typing import TYPE_CHECKING

from flask import Flask, Response, request

from order_app.http.problems import problem
from order_app.settings import ApiSettings

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Seconds after which a client may try again: the queue is worked off in less.
RETRY_AFTER = 1

#: Refusals of one process at the same time; the next one waits, at no cost. With more of them the
#: clients that come again at once take the processor from the requests that are not refused.
_REFUSALS = 2

#: Methods of requests that change nothing.
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

#: The key of an environ under which a request is marked that finds no place.
_FULL = "overload.full"


class _Places:
    """The requests of one kind that have come to this process and are not answered."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = Lock()

    def take(self) -> bool:
        """Take a place; False if none is free."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def leave(self) -> None:
        with self._lock:
            self._free += 1


def threads(settings: ApiSettings) -> int:
    """Return how many threads a process needs, so that each waiting request waits in the app."""
    return settings.api_queue_limit + settings.api_read_limit + _REFUSALS


def install(app: Flask, settings: ApiSettings) -> None:
    """Refuse requests while too many of their kind are under way.

    Reads and writes have places of their own: a flood of one kind never takes those of the other.
    Call it when all routes are registered, for the probes are never refused, and before whatever
    checks requests at some cost.
    """
    reads, writes = _Places(settings.api_read_limit), _Places(settings.api_queue_limit)
    refusals = Semaphore(_REFUSALS)
    # Whoever runs the API must see it in trouble, too.
    probes = frozenset(r.rule for r in app.url_map.iter_rules() if r.endpoint.startswith("probes."))
    answer = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["PATH_INFO"] in probes:
            return answer(environ, start_response)
        places = reads if environ["REQUEST_METHOD"] in _READS else writes
        if not places.take():
            environ[_FULL] = True
            with refusals:
                return answer(environ, start_response)
        try:
            return answer(environ, start_response)
        finally:
            places.leave()

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    app.before_request(_check)


def _check() -> Response | None:
    if _FULL not in request.environ:
        return None
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Too many requests wait; try again soon.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
