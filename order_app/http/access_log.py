"""One log line, one observation and one span for each request."""

import logging
import time
from uuid import UUID

from flask import Flask, Request, Response, g
from flask.globals import app_ctx, request_ctx
from opentelemetry import context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from common.events import CATALOGUE
from eventbus.telemetry import tracing
from eventbus.telemetry.trace_budget import TraceBudget
from order_app.http.metrics import Metrics

log = logging.getLogger(__name__)


def install(app: Flask, *, traces_per_second: int) -> None:
    """Give each request its trace, and tell of each when it is answered.

    Of each route so many traces a second are sampled.
    """
    app.extensions["trace_budget"] = TraceBudget(traces_per_second)
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_leave)


def _begin() -> None:
    # Flask's proxies look up what they stand for at each use.
    kept, asked = app_ctx.g, request_ctx.request
    kept.started = time.perf_counter()
    kept.span = span = _span(asked)
    kept.traceparent = tracing.traceparent(span)
    kept.left = context.attach(set_span_in_context(span))


def _end(response: Response) -> Response:
    kept, asked = app_ctx.g, request_ctx.request
    seconds = time.perf_counter() - kept.started
    route, status = _route(asked), response.status_code
    counted: Metrics = app_ctx.app.extensions["order_metrics"]
    counted.observe(method=asked.method, route=route, status=status, seconds=seconds)
    # Not the query: it may hold a customer's address.
    fields = {
        "method": asked.method,
        "path": asked.path,
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "trace_id": tracing.current_trace_id(),
        "client": asked.remote_addr,
    }
    changed = kept.get("order_id")
    if order_id := changed or (asked.view_args or {}).get("order_id"):
        fields["order_id"] = str(order_id)
    log.info("request", extra=fields)
    _finish(kept.span, status, changed)
    return response


def _span(asked: Request) -> Span:
    parent = asked.headers.get("traceparent")
    # Probes come all the time and lead to nothing.
    if asked.blueprint == "probes" or not tracing.recording():
        return tracing.unrecorded(parent)
    route = _route(asked)
    name = f"{asked.method} {route}"
    budget: TraceBudget = app_ctx.app.extensions["trace_budget"]
    is_sampled = budget.grants(name)
    # A client's own flag is not asked: its order is to be found like any other.
    if not is_sampled or tracing.trace_id(parent):
        parent = tracing.flagged(parent, sampled=is_sampled)
    # Not the path or the query: they name orders and customers.
    about = {"http.request.method": asked.method, "http.route": route}
    return tracing.begin(name, SpanKind.SERVER, parent, about)


def _finish(span: Span, status: int, changed: UUID | None) -> None:
    span.set_attribute("http.response.status_code", status)
    # Only what changes an order is a part of its story; looking at it is not.
    if changed:
        span.set_attribute(CATALOGUE.id_attribute, str(changed))
    if status >= 500:
        tracing.fail(span, f"status {status}")
    span.end()


def _leave(_error: BaseException | None) -> None:
    if left := g.pop("left", None):
        context.detach(left)


def _route(asked: Request) -> str:
    return asked.url_rule.rule if asked.url_rule else "none"
