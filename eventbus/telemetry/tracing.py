"""Traces: what one request leads to, in every service, as spans that know their parents.

A span is a piece of work; a `traceparent` names it, and travels in events and message headers.
Where no endpoint is set nothing is recorded, no thread runs and no header is added; the request's
`traceparent` is passed on all the same, so that logs and timelines still tell which trace it was.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    use_span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from eventbus.settings.base import Settings

#: What a span tells of its work.
Attributes = Mapping[str, str | int]

#: The attribute `outcome` of a span that is not sent: a batch that was rolled back did nothing.
ROLLED_BACK = "rolled back"

#: Characters of an error's text that a span keeps.
TEXT_LIMIT = 500

_propagator = TraceContextTextMapPropagator()


@dataclass
class _Recording:
    """What this process records with; without an endpoint, nothing."""

    tracer: Tracer
    #: What ends it, in this order.
    ends: list[Callable[[], object]] = field(default_factory=list)


_recording = _Recording(NoOpTracer())


def prepare(settings: Settings) -> None:
    """Load what `start` needs, if an endpoint is set: before a fork, so that children need not."""
    if settings.otlp_endpoint is not None:
        import_module("eventbus.telemetry.span_export")
        import_module("eventbus.telemetry.task_spans")


def start(
    process: str, settings: Settings, *, tasks: bool = False, ticks: Iterable[str] = ()
) -> None:
    """Record this process's spans, if an endpoint is set; call it after the last fork.

    With `tasks`, that is in a worker, each task that Celery's signals report has a span, and of the
    tasks named in `ticks` one a minute.
    A second call changes nothing. The thread that sends the spans ends with `stop`, or at exit.
    """
    if settings.otlp_endpoint is None or recording():
        return
    # Here, so that a process that records nothing does not load the SDK.
    from eventbus.telemetry.span_export import provider

    made = provider(process, str(settings.otlp_endpoint), release=settings.release, ticks=ticks)
    _recording.tracer = made.get_tracer("eventbus")
    _recording.ends = [made.shutdown]
    if tasks:
        from eventbus.telemetry import task_spans

        task_spans.begin(made)
        _recording.ends.insert(0, task_spans.end)


def stop() -> None:
    """Send what is recorded and record no more: for processes that end without Python's exit."""
    ends, _recording.ends, _recording.tracer = _recording.ends, [], NoOpTracer()
    for end in ends:
        end()


def recording() -> bool:
    """Tell whether this process records spans."""
    return bool(_recording.ends)


def begin(
    name: str,
    kind: SpanKind,
    parent: object,
    attributes: Attributes,
    *,
    start: int | None = None,
) -> Span:
    """Return a new span, a child of the `traceparent` in `parent` or the first of a new trace.

    What is no valid `traceparent` counts as none. `start` is in nanoseconds since the epoch, now if
    it is not given. The caller ends the span.
    """
    context = _context(parent)
    return _recording.tracer.start_span(name, context, kind, dict(attributes), start_time=start)


def unrecorded(parent: object) -> Span:
    """Return a span that goes on with a trace, or begins one, and is not recorded."""
    span = get_current_span(_context(parent))
    if span.get_span_context().is_valid:
        return span
    return NonRecordingSpan(_first(sampled=True))


def flagged(parent: object, *, sampled: bool) -> str:
    """Return a `traceparent` with this flag: of the same trace, or of a new one.

    Whatever goes on from it is recorded and sent, or sent only if it fails.
    """
    found = get_current_span(_context(parent)).get_span_context()
    return _written(found if found.is_valid else _first(sampled=sampled), TraceFlags(sampled))


def _first(*, sampled: bool) -> SpanContext:
    ids = secrets.randbits(128) or 1, secrets.randbits(64) or 1
    return SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(sampled))


@contextmanager
def span(name: str, kind: SpanKind, parent: object, attributes: Attributes) -> Iterator[Span]:
    """Make a new span the current one for the block; what is raised in it ends it as an error."""
    begun = begin(name, kind, parent, attributes)
    with use_span(begun, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield begun
        except Exception as error:
            fail(begun, f"{type(error).__name__}: {error}")
            raise


def fail(span: Span, reason: str) -> None:
    """Mark a span as failed."""
    span.set_status(Status(StatusCode.ERROR, reason[:TEXT_LIMIT]))


def traceparent(span: Span | None = None) -> str | None:
    """Return the `traceparent` that names a span, or the current one; None when there is none."""
    context = (span or get_current_span()).get_span_context()
    if not context.is_valid:
        return None
    return _written(context, context.trace_flags)


def _written(context: SpanContext, flags: TraceFlags) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def trace_id(traceparent: object) -> str | None:
    """Return the id of the trace that a `traceparent` names, or None if it is not valid."""
    return _id(get_current_span(_context(traceparent)))


def current_trace_id() -> str | None:
    """Return the id of the trace that is being worked on, or None."""
    return _id(get_current_span())


def _id(span: Span) -> str | None:
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _context(traceparent: object) -> Context:
    # Never the current context: only what was passed on is a parent.
    if not isinstance(traceparent, str):
        return Context()
    return _propagator.extract({"traceparent": traceparent}, Context())
