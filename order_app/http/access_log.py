"""Instrumentation of each request: a log line, the duration as a metric, and a span."""

import logging
import time
from uuid import UUID

from flask import Flask, Request, Response, g
from flask.globals import app_ctx, request_ctx
from opentelemetry import context
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from common.events import CATALOGUE
from eventbus.telemetry import tracing
from eventbus.telemetry.privacy import masked
from eventbus.telemetry.trace_budget import TraceBudget
from order_app.http.metrics import Metrics

log = logging.getLogger(__name__)


def install(app: Flask, *, traces_per_second: int) -> None:
    """Start a trace for each request, and log the request after its response.

    `traces_per_second` is the number of sampled traces per route.
    """
    app.extensions["trace_budget"] = TraceBudget(traces_per_second)
    app.before_request(_begin)
    app.after_request(_end)
    app.teardown_request(_detach_context)


def _begin() -> None:
    # Flask's proxies look up their object at each use.
    state, request = app_ctx.g, request_ctx.request
    state.started = time.perf_counter()
    state.span = span = _span(request)
    state.traceparent = tracing.traceparent(span)
    state.context_token = context.attach(set_span_in_context(span))


def _end(response: Response) -> Response:
    state, request = app_ctx.g, request_ctx.request
    seconds = time.perf_counter() - state.started
    route, status = _route(request), response.status_code
    metrics: Metrics = app_ctx.app.extensions["order_metrics"]
    metrics.observe(method=request.method, route=route, status=status, seconds=seconds)
    # The line omits the query, which may contain a customer's address. A path may contain any
    # characters.
    fields = {
        "method": request.method,
        "path": masked(request.path),
        "route": route,
        "status": status,
        "milliseconds": round(seconds * 1000, 1),
        "trace_id": tracing.current_trace_id(),
        "client": request.remote_addr,
    }
    changed_order = state.get("order_id")
    if order_id := changed_order or (request.view_args or {}).get("order_id"):
        fields["order_id"] = masked(str(order_id))
    log.info("request", extra=fields)
    _finish(state.span, status, changed_order)
    return response


def _span(request: Request) -> Span:
    parent = request.headers.get("traceparent")
    # Probes are frequent and have no effects.
    if request.blueprint == "probes" or not tracing.recording():
        return tracing.unrecorded(parent)
    route = _route(request)
    name = f"{request.method} {route}"
    budget: TraceBudget = app_ctx.app.extensions["trace_budget"]
    is_sampled = budget.grants(name)
    # The client's sampling flag is ignored: the rate limits the traces of all clients equally.
    if not is_sampled or tracing.trace_id(parent):
        parent = tracing.flagged(parent, sampled=is_sampled)
    # The span omits the path and the query, which identify orders and customers.
    attributes = {"http.request.method": request.method, "http.route": route}
    return tracing.begin(name, SpanKind.SERVER, parent, attributes)


def _finish(span: Span, status: int, changed_order: UUID | None) -> None:
    span.set_attribute("http.response.status_code", status)
    # A request about an order belongs to the order's trace only if it changes the order.
    if changed_order:
        span.set_attribute(CATALOGUE.id_attribute, str(changed_order))
    if status >= 500:
        tracing.fail(span, f"status {status}")
    span.end()


def _detach_context(_error: BaseException | None) -> None:
    if token := g.pop("context_token", None):
        context.detach(token)


def _route(request: Request) -> str:
    return request.url_rule.rule if request.url_rule else "none"
