"""One log line and one observation for each request."""

import logging
import time

from flask import Flask, Response, current_app, g, request

from order_app import tracing
from order_app.metrics import Metrics

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    """Give each request its trace, and tell of each when it is answered."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    g.started = time.perf_counter()
    g.traceparent = tracing.accept(request.headers.get("traceparent"))


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.started
    route = request.url_rule.rule if request.url_rule else "none"
    counted: Metrics = current_app.extensions["order_metrics"]
    counted.observe(
        method=request.method, route=route, status=response.status_code, seconds=seconds
    )
    # Not the query: it may hold a customer's address.
    fields = {
        "method": request.method,
        "path": request.path,
        "route": route,
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 1),
        "trace_id": tracing.trace_id(g.traceparent),
        "client": request.remote_addr,
    }
    log.info("request", extra=fields)
    return response
