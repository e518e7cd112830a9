"""The traces of an order as bars: each span below its parent, on the time scale of its trace."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from console.monitoring.waterfall import Fall, waterfall
from span_store.models import SpanRow

#: The width of a bar that lasts as long as its trace, in the drawing's units.
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


def traces(spans: Sequence[SpanRow]) -> list[Trace]:
    """Return spans as the bars of their traces, the trace that started first at the top."""
    first: dict[str, int] = {}
    for index, span in enumerate(spans):
        first.setdefault(span.trace_id, index)
    by_trace = sorted(spans, key=lambda span: first[span.trace_id])
    groups = groupby(by_trace, key=lambda span: span.trace_id)
    return [_trace(trace_id, waterfall(list(group))) for trace_id, group in groups]


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
