"""Load shedding: immediate rejection, with `Retry-After`, of requests that cannot be handled soon.

Without load shedding, waiting times grow until every client times out and all work is wasted.
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

#: Seconds after which a client may retry. The queue is processed in less time.
RETRY_AFTER = 1

#: The maximum number of concurrent rejections in one process. Additional requests wait, at no cost.
#: With a higher number, clients that retry immediately would take CPU time from accepted requests.
_REJECTIONS = 2

#: Maximum number of concurrent probes in one process that query the database, and may wait for it.
#: It is sufficient for two clients, such as a load balancer and Prometheus, that repeat their probe
#: while the previous probe is waiting.
_PROBES = 4

#: Number of additional concurrent requests in one process: one for `/healthz`, which must be
#: available while all other requests wait, and one for a request that reads the API keys.
_OTHERS = 2

#: The probe that is never rejected, because it has no dependencies, and a process that does not
#: respond to it is restarted.
_LIVENESS = "probes.healthz"

#: Methods of read-only requests.
_READS = frozenset({"GET", "HEAD", "OPTIONS"})

#: The key in the environ that marks a request to be rejected.
_REJECTED = "load_shedding.rejected"


class _Slots:
    """The slots for requests of one kind that are in progress in this process."""

    def __init__(self, limit: int) -> None:
        self._free = limit
        self._lock = Lock()

    def acquire(self) -> bool:
        """Take a slot, and return whether a slot was free."""
        with self._lock:
            if self._free == 0:
                return False
            self._free -= 1
            return True

    def release(self) -> None:
        with self._lock:
            self._free += 1


def threads(settings: ApiSettings) -> int:
    """Return the number of threads per process: one for each request that can be in progress."""
    requests = settings.api_queue_limit + settings.api_read_limit
    return requests + _REJECTIONS + _PROBES + _OTHERS


def install(app: Flask, settings: ApiSettings) -> None:
    """Reject requests while too many of their kind are in progress.

    Reads, writes and probes have separate slots, so a flood of one kind cannot block another. Must
    be called after all routes are registered, because probes are found by their routes, and before
    expensive checks of requests are installed.
    """
    reads, writes = _Slots(settings.api_read_limit), _Slots(settings.api_queue_limit)
    querying, rejections = _Slots(_PROBES), Semaphore(_REJECTIONS)
    rules = {rule.rule: rule.endpoint for rule in app.url_map.iter_rules()}
    probes = {path: endpoint for path, endpoint in rules.items() if endpoint.startswith("probes.")}
    inner = app.wsgi_app

    def wsgi_app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        probe = probes.get(environ["PATH_INFO"])
        if probe == _LIVENESS:
            return inner(environ, start_response)
        is_read = environ["REQUEST_METHOD"] in _READS
        slots = querying if probe else reads if is_read else writes
        if not slots.acquire():
            environ[_REJECTED] = True
            with rejections:
                return inner(environ, start_response)
        try:
            return inner(environ, start_response)
        finally:
            slots.release()

    app.wsgi_app = wsgi_app  # type: ignore[method-assign]
    app.before_request(_check)


def _check() -> Response | None:
    if _REJECTED not in request.environ:
        return None
    return problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Too many requests are in progress; try again soon.",
        headers={"Retry-After": str(RETRY_AFTER)},
    )
