"""The order page: the state of an order, and its path through all services."""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any
from uuid import UUID

from flask import Blueprint, current_app, render_template, request

from console.actions import order, trace
from console.actions.order import Story
from console.errors import ActionError
from console.monitoring.waterfall import Fall, waterfall
from console.settings import ConsoleSettings
from console.web.queries import Queries, results
from order_app.use_cases import UnknownOrder
from span_store.models import SpanRow

orders = Blueprint("orders", __name__)

#: The width of a bar that lasts as long as the whole trace, in the drawing's units.
_WIDTH = 100.0


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A span: `left` and `width` of its bar, and the outcome in its attributes."""

    fall: Fall
    left: float
    width: float
    start_ms: float
    outcome: str


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A trace as bars, the first span at the top."""

    id: str
    milliseconds: float
    bars: tuple[Bar, ...]


@orders.get("/orders")
def show() -> tuple[str, int]:
    """Show the requested order, or an empty form."""
    wanted = request.args.get("id", "").strip()
    if not wanted:
        return render_template("order.html", wanted=""), 200
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    try:
        order_id = UUID(wanted)
    except ValueError:
        text = "An order id has 32 digits from 0 to f, as returned by the API."
        return render_template("order.html", wanted=wanted, order_problem=text), 400
    futures: list[Future[Any]] = [
        queries.start(partial(_story, settings, order_id)),
        queries.start(partial(_spans, settings, order_id)),
    ]
    story, spans = results(futures)
    page = render_template(
        "order.html",
        wanted=str(order_id),
        story=story.value,
        order_problem=story.problem,
        traces=traces(spans.value or ()),
        trace_problem=spans.problem,
        is_unknown=not (story.value or spans.value or story.problem or spans.problem),
    )
    return page, 200


def traces(spans: Sequence[SpanRow]) -> list[Trace]:
    """Return spans as the bars of their traces, the trace that started first at the top."""
    first: dict[str, int] = {}
    for index, span in enumerate(spans):
        first.setdefault(span.trace_id, index)
    by_trace = sorted(spans, key=lambda span: first[span.trace_id])
    groups = groupby(by_trace, key=lambda span: span.trace_id)
    return [_trace(trace_id, waterfall(list(group))) for trace_id, group in groups]


def _story(settings: ConsoleSettings, order_id: UUID) -> Story | None:
    try:
        return order.show(settings, order_id)
    except UnknownOrder:
        return None


def _spans(settings: ConsoleSettings, order_id: UUID) -> list[SpanRow]:
    try:
        return trace.find(settings, str(order_id))
    except ActionError:
        return []


def _trace(trace_id: str, falls: Sequence[Fall]) -> Trace:
    start = min(fall.span.started_at for fall in falls)
    starts = [(fall.span.started_at - start).total_seconds() * 1000 for fall in falls]
    length = max(at + fall.span.microseconds / 1000 for at, fall in zip(starts, falls, strict=True))
    scale = _WIDTH / length if length else 0.0
    return Trace(
        id=trace_id,
        milliseconds=length,
        bars=tuple(
            Bar(
                fall=fall,
                left=at * scale,
                # A short span stays visible.
                width=max(0.6, fall.span.microseconds / 1000 * scale),
                start_ms=at,
                outcome=_outcome(fall.span),
            )
            for at, fall in zip(starts, falls, strict=True)
        ),
    )


def _outcome(span: SpanRow) -> str:
    attempt = span.attributes.get("attempt")
    words = [
        f"attempt {attempt}" if attempt else "",
        str(span.attributes.get("outcome") or span.attributes.get("http.response.status_code", "")),
        span.reason or "",
    ]
    return ", ".join(word for word in words if word)
