"""Traces: all the work caused by one request, in every service, as a tree of spans.

A span is a unit of work, identified by a `traceparent` in events and message headers. Without an
endpoint, spans are not recorded, no thread runs and no headers are added. The `traceparent` of the
request is still propagated, so logs and timelines contain the trace id.
"""

import logging
import os
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
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
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: The attributes of a span.
Attributes = Mapping[str, str | int]

#: Value of the `outcome` attribute of a span that is not sent, because its batch was rolled back.
ROLLED_BACK = "rolled back"

#: Maximum number of characters of an error's text in a span.
TEXT_LIMIT = 500

_propagator = TraceContextTextMapPropagator()

#: The source of ids, which need not be secret. The operating system's random numbers would cost two
#: system calls for each request, and each call would release the interpreter to another thread.
_ids = random.Random()  # noqa: S311
os.register_at_fork(after_in_child=_ids.seed)


@dataclass
class _Recording:
    """The tracer of this process, which does not record without an endpoint."""

    tracer: Tracer
    #: Functions that end the recording, in this order.
    shutdowns: list[Callable[[], object]] = field(default_factory=list)
    #: Whether an attempt to start has failed, after which another attempt would also fail.
    has_failed: bool = False


_recording = _Recording(NoOpTracer())


def prepare(settings: Settings) -> None:
    """Import the modules that `start` needs. Call this before a fork, so that children share them.

    Does nothing if no endpoint is set.
    """
    if settings.otlp_endpoint is not None:
        import_module("eventbus.telemetry.span_export")
        import_module("eventbus.telemetry.task_spans")


def start(
    process: str, settings: Settings, *, tasks: bool = False, ticks: Iterable[str] = ()
) -> None:
    """Record this process's spans if an endpoint is set. Must be called after the last fork.

    With `tasks`, which workers set, each task that Celery's signals report has a span. A task named
    in `ticks` has one span per minute. A second call has no effect. The thread that sends the spans
    ends with `stop`, or at exit. This never raises: if spans cannot be recorded, the process works
    without them.
    """
    if settings.otlp_endpoint is None or recording() or _recording.has_failed:
        return
    try:
        _start(process, settings, tasks=tasks, ticks=ticks)
    except Exception:
        # The cause is, for example, an invalid value in one of OpenTelemetry's variables.
        log.exception("spans not recorded")
        _recording.has_failed = True
        with suppress(Exception):
            stop()


def _start(process: str, settings: Settings, *, tasks: bool, ticks: Iterable[str]) -> None:
    # The import is here, because a process that does not record spans must not load the SDK.
    from eventbus.telemetry.span_export import provider

    spans = provider(process, str(settings.otlp_endpoint), release=settings.release, ticks=ticks)
    _recording.tracer = spans.get_tracer("eventbus")
    _recording.shutdowns = [spans.shutdown]
    if tasks:
        from eventbus.telemetry import task_spans

        task_spans.begin(spans)
        _recording.shutdowns.insert(0, task_spans.end)


def stop() -> None:
    """Send the recorded spans and stop recording, in a process that exits with `os._exit`."""
    shutdowns, _recording.shutdowns, _recording.tracer = _recording.shutdowns, [], NoOpTracer()
    for shutdown in shutdowns:
        shutdown()


def recording() -> bool:
    """Return whether this process records spans."""
    return bool(_recording.shutdowns)


def begin(
    name: str,
    kind: SpanKind,
    parent: object,
    attributes: Attributes,
    *,
    start: int | None = None,
) -> Span:
    """Return a new span, a child of the `traceparent` in `parent` or the first of a new trace.

    An invalid `traceparent` is ignored. `start` is in nanoseconds since the epoch, by default now.
    The caller ends the span.
    """
    context = _context(parent)
    return _recording.tracer.start_span(name, context, kind, dict(attributes), start_time=start)


def unrecorded(parent: object) -> Span:
    """Return a span that continues or starts a trace, and is not recorded."""
    span = get_current_span(_context(parent))
    if span.get_span_context().is_valid:
        return span
    return NonRecordingSpan(_new_context(sampled=True))


def flagged(parent: object, *, sampled: bool) -> str:
    """Return a `traceparent` with this flag, in the parent's trace or in a new trace.

    If `sampled`, the spans that continue it are recorded and sent. Otherwise only failed spans are
    sent.
    """
    context = get_current_span(_context(parent)).get_span_context()
    if not context.is_valid:
        context = _new_context(sampled=sampled)
    return _formatted(context, TraceFlags(sampled))


def _new_context(*, sampled: bool) -> SpanContext:
    ids = _ids.getrandbits(128) or 1, _ids.getrandbits(64) or 1
    return SpanContext(*ids, is_remote=False, trace_flags=TraceFlags(sampled))


@contextmanager
def span(name: str, kind: SpanKind, parent: object, attributes: Attributes) -> Iterator[Span]:
    """Make a new span current for the block; an exception marks the span as failed."""
    new_span = begin(name, kind, parent, attributes)
    with use_span(
        new_span, end_on_exit=True, record_exception=False, set_status_on_exception=False
    ):
        try:
            yield new_span
        except Exception as error:
            fail(new_span, described(error))
            raise


def fail(span: Span, reason: str) -> None:
    """Mark a span as failed."""
    span.set_status(Status(StatusCode.ERROR, reason[:TEXT_LIMIT]))


def traceparent(span: Span | None = None) -> str | None:
    """Return the `traceparent` of a span, by default the current span, or None."""
    context = (span or get_current_span()).get_span_context()
    if not context.is_valid:
        return None
    return _formatted(context, context.trace_flags)


def _formatted(context: SpanContext, flags: TraceFlags) -> str:
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"


def trace_id(traceparent: object) -> str | None:
    """Return the trace id of a `traceparent`, or None if it is invalid."""
    return _id(get_current_span(_context(traceparent)))


def current_trace_id() -> str | None:
    """Return the id of the current trace, or None."""
    return _id(get_current_span())


def _id(span: Span) -> str | None:
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else None


def _context(traceparent: object) -> Context:
    # The parent always comes from a `traceparent` that was passed on, never from the current
    # context.
    if not isinstance(traceparent, str):
        return Context()
    return _propagator.extract({"traceparent": traceparent}, Context())
