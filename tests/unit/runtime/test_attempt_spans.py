"""Each attempt to handle an event is a span with the outcome, in the trace of its message."""

from collections.abc import Sequence

import psycopg2
import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, get_current_span

from eventbus.consumer.receive import Delivery, Item
from eventbus.consumer.task_run import has_receivers
from eventbus.errors import Permanent, Transient
from eventbus.telemetry import tracing
from eventbus.telemetry.span_export import _SentSpans
from testkit.processes.attempt_spans import (
    ENVELOPE_TRACEPARENT,
    TRACEPARENT,
    attempt_spans,
    first_receiver,
    stock_reserved,
)


@pytest.mark.parametrize(
    ("error", "number", "outcome"),
    [
        (Transient("later"), 1, "retry"),
        (ZeroDivisionError("bug"), 2, "retry"),
        (Transient("never"), 3, "parked"),
        (Permanent("no"), 1, "parked"),
        (psycopg2.OperationalError("gone"), 1, "paused"),
    ],
)
def test_the_span_of_a_failed_attempt_has_its_outcome(
    recording: None, error: Exception, number: int, outcome: str
) -> None:
    # When an attempt fails
    (span,) = attempt_spans([stock_reserved(TRACEPARENT, number)], error)

    # Then its span has the outcome and the status of an error
    assert span.attributes["outcome"] == outcome
    assert span.status.status_code.name == "ERROR"
    assert span.events == ()


def test_the_span_of_an_attempt_identifies_its_event(recording: None) -> None:
    # Given a second delivery
    item = stock_reserved(TRACEPARENT, attempts=2)

    # When it is handled
    (span,) = attempt_spans([item])

    # Then it has the name and the attributes for searching
    assert (span.name, span.kind, span.end_time is not None) == (
        "process stock.reserved",
        SpanKind.CONSUMER,
        True,
    )
    assert item.event
    expected = {
        "messaging.system": "rabbitmq",
        "messaging.operation.type": "process",
        "messaging.destination.name": "inventory.queue",
        "messaging.message.id": str(item.event.id),
        "event.id": str(item.event.id),
        "event.type": "stock.reserved",
        "order.id": str(item.event.subject),
        "attempt": 2,
        "outcome": "handled",
    }
    assert expected.items() <= dict(span.attributes).items()
    # And the events of the handler continue its trace
    assert item.traceparent == tracing.traceparent(span)
    assert tracing.traceparent() is None


def test_the_header_precedes_the_envelope_as_the_parent(recording: None) -> None:
    # Given three messages of one batch, two of them without a valid header
    items = [stock_reserved(header) for header in (TRACEPARENT, "x", None)]

    # When they are handled
    spans = attempt_spans(items)

    # Then the envelope is the parent of these two
    envelope = ENVELOPE_TRACEPARENT
    parents = [f"{span.parent.span_id:016x}" for span in spans]
    assert parents == [p.split("-")[2] for p in (TRACEPARENT, envelope, envelope)]
    traces = [tracing.trace_id(tracing.traceparent(span)) for span in spans]
    assert traces == [tracing.trace_id(t) for t in (TRACEPARENT, envelope, envelope)]
    assert all(span.attributes["messaging.batch.message_count"] == 3 for span in spans)


def test_the_span_of_an_invalid_event_has_no_order(recording: None) -> None:
    (span,) = attempt_spans(
        [Item(Delivery("order.created", b"", 1, None, "1", headers={"id": "1"}))]
    )
    assert "order.id" not in span.attributes


def test_no_span_of_a_rolled_back_batch_is_exported(recording: None) -> None:
    # Given an exporter that keeps the exported spans
    sent: list[ReadableSpan] = []

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            sent.extend(spans)
            return SpanExportResult.SUCCESS

    processor = _SentSpans(Exporter())

    # When a batch fails, and one of its events is attempted again alone
    items = [stock_reserved(), stock_reserved()]
    spans = [*attempt_spans(items, Transient("later")), *attempt_spans(items[:1])]
    for span in spans:
        processor.on_end(span)
    processor.shutdown()

    # Then only the span of the single attempt is sent
    assert sent == spans[2:]


def test_hostile_headers_cannot_leave_a_span_open(recording: None) -> None:
    # Given headers with the names of OpenTelemetry and Celery
    hostile = {"declare": 1, "get": 1, "tracestate": 7, "baggage": [3], "priority": {"a": 1}}

    # When messages with these headers are attempted
    spans = attempt_spans([stock_reserved(TRACEPARENT, **hostile), stock_reserved(b"x", **hostile)])

    # Then all spans have ended
    assert all(span.end_time for span in spans)
    assert tracing.traceparent() is None


def test_the_instrumentation_records_the_span_of_a_tick(recording: None) -> None:
    # Given a receiver that records the current span
    spans: list[Span] = []

    def note(**_: object) -> None:
        spans.append(get_current_span())

    # When Celery itself runs the task of a tick
    ticks = Celery("ticks", set_as_current=False)

    @ticks.task(name="inventory.relay", lazy=False, shared=False)
    def tick() -> None:
        pass

    with first_receiver(signals.task_postrun, note):
        build_tracer(tick.name, tick, app=ticks)("1", (), {}, {"id": "1"})

    # Then the tick has one span, which has ended
    assert [span.name for span in spans] == ["run/inventory.relay"]
    assert spans[0].end_time


def test_a_process_that_stops_recording_has_no_receiver(recording: None) -> None:
    assert signals.task_prerun.receivers

    tracing.stop()

    assert not has_receivers()
