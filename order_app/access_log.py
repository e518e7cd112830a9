"""One log line, one observation and one span for each request."""

import logging
import time

from flask import Flask, Response, current_app, g, request
from opentelemetry import context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from common import tracing
from order_app.metrics import Metrics

log = logging.getLogger(__name__)


def install(app: Flask) -> None:
    """Give each request its trace, and tell of each when it is answered."""
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_leave)


def _begin() -> None:
    g.started = time.perf_counter()
    g.span = _span(request.headers.get("traceparent"))
    g.traceparent = tracing.traceparent(g.span)
    g.left = context.attach(set_span_in_context(g.span))


def _end(response: Response) -> Response:
    seconds = time.perf_counter() - g.started
    counted: Metrics = current_app.extensions["order_metrics"]
    counted.observe(
        method=request.method, route=_route(), status=response.status_code, seconds=seconds
    )
    # Not the query: it may hold a customer's address.
    fields = {
        "method": request.method,
        "path": request.path,
        "route": _route(),
        "status": response.status_code,
        "milliseconds": round(seconds * 1000, 1),
        "trace_id": tracing.trace_id(g.traceparent),
        "client": request.remote_addr,
    }
    if order_id := g.get("order_id") or (request.view_args or {}).get("order_id"):
        fields["order_id"] = str(order_id)
    log.info("request", extra=fields)
    _finish(g.span, response.status_code)
    return response


def _span(parent: str | None) -> Span:
    # Probes come all the time and lead to nothing.
    if request.blueprint == "probes" or not tracing.recording():
        return tracing.unrecorded(parent)
    # Not the path or the query: they name orders and customers.
    about = {"http.request.method": request.method, "http.route": _route()}
    return tracing.begin(f"{request.method} {_route()}", SpanKind.SERVER, parent, about)


def _finish(span: Span, status: int) -> None:
    span.set_attribute("http.response.status_code", status)
    # Only what changes an order is a part of its story; looking at it is not.
    if order_id := g.get("order_id"):
        span.set_attribute(tracing.ORDER_ID, str(order_id))
    if status >= 500:
        tracing.fail(span, f"status {status}")
    span.end()


def _leave(_error: BaseException | None) -> None:
    if left := g.pop("left", None):
        context.detach(left)


def _route() -> str:
    return request.url_rule.rule if request.url_rule else "none"
