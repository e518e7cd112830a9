"""Spans pass their names on; where no endpoint is set, nothing runs and nothing is loaded."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest
from celery import Celery, signals
from celery.app.trace import build_tracer
from celery.utils.dispatch import Signal
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import Span, SpanKind, StatusCode, get_current_span

from common.events import StockReserved
from common.kombu_topology import INVENTORY
from eventbus.consumer.attempt import Attempt
from eventbus.consumer.attempts import attempt_all
from eventbus.consumer.receive import Delivery, Item, Outcome
from eventbus.consumer.task_run import is_heard
from eventbus.errors import Permanent, Transient
from eventbus.events.envelope import Event
from eventbus.settings.base import Settings
from eventbus.telemetry import tracing
from eventbus.telemetry.logs import _WithTraceId
from eventbus.telemetry.sampling import TICK_INTERVAL, PassedOn
from eventbus.telemetry.span_export import _OneLineExporter, _SentSpans
from eventbus.telemetry.trace_budget import TraceBudget
from testkit.processes.signals import worker_app

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"

#: Port 9 discards; nothing listens there.
NOWHERE = Settings(otlp_endpoint="http://127.0.0.1:9")

TIERS = (1.0, 5.0)

app = worker_app("order.created", "stock.reserved", "inventory.relay", retry_tiers=TIERS)

PROGRAM = """
import json, sys, threading
from eventbus.telemetry import tracing
from eventbus.settings.base import Settings
tracing.start("test", Settings(), tasks=True)
with tracing.span("work", tracing.SpanKind.CONSUMER, sys.argv[1], {}) as span:
    inner = tracing.traceparent()
tracing.stop()
print(json.dumps([
    inner,
    threading.active_count(),
    [
        name
        for name in sys.modules
        if name.startswith(("opentelemetry.exporter", "opentelemetry.instrumentation", "requests"))
    ],
]))
"""


@pytest.fixture
def recording() -> Iterator[None]:
    """This process records spans of its tasks, too, and sends them nowhere."""
    tracing.start("test", NOWHERE, tasks=True)
    yield
    tracing.stop()


def test_without_an_endpoint_nothing_runs_and_the_trace_is_passed_on_as_it_is() -> None:
    # given a process without OTLP_ENDPOINT
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TRACEPARENT],
        cwd=Path(__file__).parents[3],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    # then it has one thread, has loaded no exporter, and its span is its parent
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [TRACEPARENT, 1, []]


def test_a_recorded_span_stays_in_the_trace_under_a_name_of_its_own(recording: None) -> None:
    with tracing.span("work", SpanKind.CONSUMER, TRACEPARENT, {}):
        inner = tracing.traceparent()

    assert tracing.trace_id(inner) == TRACE
    assert inner != TRACEPARENT
    assert tracing.traceparent() is None


def test_the_thread_that_sends_spans_ends_with_the_recording() -> None:
    # given
    before = threading.active_count()
    tracing.start("test", NOWHERE)
    tracing.start("test", NOWHERE)
    assert threading.active_count() == before + 1

    # when
    tracing.stop()

    # then
    assert threading.active_count() == before
    assert not tracing.recording()


@pytest.mark.parametrize(
    "parent", [None, "", 7, b"x", [TRACEPARENT], TRACEPARENT.upper(), "00-1-2-01"]
)
def test_what_is_no_traceparent_is_no_parent(recording: None, parent: object) -> None:
    with tracing.span("work", SpanKind.CONSUMER, parent, {}):
        found = tracing.traceparent()

    assert tracing.trace_id(parent) is None
    assert tracing.trace_id(found) not in (None, TRACE)


def test_a_trace_that_nobody_began_begins_with_the_request() -> None:
    first, second = (tracing.traceparent(tracing.unrecorded(None)) for _ in range(2))

    assert tracing.trace_id(first) is not None
    assert tracing.trace_id(first) != tracing.trace_id(second)
    assert tracing.traceparent(tracing.unrecorded(TRACEPARENT)) == TRACEPARENT


def attempted(items: list[Item], error: Exception | None = None) -> list[Span]:
    """Let the items be handled, or fail; returns the spans of their attempts."""
    spans: dict[str, Span] = {}

    def note(task_id: str, **_: object) -> None:
        spans[task_id] = get_current_span()

    def make(item: Item) -> Attempt:
        task = app.tasks[item.delivery.task]
        return Attempt(item, task, service=INVENTORY, hostname="inventory", tiers=TIERS)

    def work() -> None:
        if error:
            raise error
        for item in items:
            item.outcome = Outcome.HANDLED

    with connected(signals.task_postrun, note), suppress(Exception):
        attempt_all(items, make, work)
    return [spans[item.delivery.event_id] for item in items]


@contextmanager
def connected(signal: Signal, receiver: Callable[..., None]) -> Iterator[None]:
    # Before the instrumentation, which ends the span.
    others, signal.receivers[:] = list(signal.receivers), []
    signal.connect(receiver, weak=False)
    signal.receivers.extend(others)
    yield
    signal.disconnect(receiver)


def reserved(header: object = None, attempts: int = 1, **headers: object) -> Item:
    """Return a delivery of an event that names a span of its own."""
    event = Event(
        source="order",
        subject=uuid4(),
        sequence=1,
        traceparent=TRACEPARENT.replace("0a", "0b"),
        data=StockReserved(lines=()),
    )
    name = str(event.id)
    told = {"id": name, "task": event.type, "retries": attempts - 1, "traceparent": header}
    delivery = Delivery(event.type, b"", attempts, header, name, headers=told | headers)  # type: ignore[arg-type]
    return Item(delivery, event, event)


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
def test_a_failed_attempt_is_an_error_that_tells_what_becomes_of_it(
    recording: None, error: Exception, number: int, outcome: str
) -> None:
    # when
    (span,) = attempted([reserved(TRACEPARENT, number)], error)

    # then
    assert span.attributes["outcome"] == outcome
    assert span.status.status_code.name == "ERROR"
    assert span.events == ()


def test_the_span_of_an_attempt_tells_what_was_attempted(recording: None) -> None:
    # given
    item = reserved(TRACEPARENT, attempts=2)

    # when
    (span,) = attempted([item])

    # then it has the name and the attributes by which it is found
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
    # And what its handler caused goes on from it
    assert item.traceparent == tracing.traceparent(span)
    assert tracing.traceparent() is None


def test_the_header_is_the_parent_before_the_envelope(recording: None) -> None:
    # given messages of one batch, of which two have no valid header
    items = [reserved(header) for header in (TRACEPARENT, "x", None)]

    # when
    spans = attempted(items)

    # then
    envelope = TRACEPARENT.replace("0a", "0b")
    parents = [f"{span.parent.span_id:016x}" for span in spans]
    assert parents == [p.split("-")[2] for p in (TRACEPARENT, envelope, envelope)]
    traces = [tracing.trace_id(tracing.traceparent(span)) for span in spans]
    assert traces == [tracing.trace_id(t) for t in (TRACEPARENT, envelope, envelope)]
    assert all(span.attributes["messaging.batch.message_count"] == 3 for span in spans)


def test_an_attempt_without_an_event_names_no_order(recording: None) -> None:
    (span,) = attempted([Item(Delivery("order.created", b"", 1, None, "1", headers={"id": "1"}))])
    assert "order.id" not in span.attributes


def test_nothing_is_sent_of_a_batch_that_was_rolled_back(recording: None) -> None:
    # given
    sent: list[ReadableSpan] = []

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            sent.extend(spans)
            return SpanExportResult.SUCCESS

    processor = _SentSpans(Exporter())

    # when a batch fails, and one of its events is handled alone
    items = [reserved(), reserved()]
    spans = [*attempted(items, Transient("later")), *attempted(items[:1])]
    for span in spans:
        processor.on_end(span)
    processor.shutdown()

    # then
    assert sent == spans[2:]


def test_headers_cannot_leave_a_span_open(recording: None) -> None:
    # given
    hostile = {"declare": 1, "get": 1, "tracestate": 7, "baggage": [3], "priority": {"a": 1}}

    # when
    spans = attempted([reserved(TRACEPARENT, **hostile), reserved(b"x", **hostile)])

    # then
    assert all(span.end_time for span in spans)
    assert tracing.traceparent() is None


def test_of_ticks_one_a_minute_is_recorded() -> None:
    # given
    now = [0.0]
    sampler = PassedOn(["inventory.relay"], clock=lambda: now[0])

    def recorded(name: str) -> bool:
        return sampler.should_sample(None, 1, name, SpanKind.CONSUMER).decision.is_sampled()

    # when a tick comes every second, and an event with each
    ticks, events = [], []
    for now[0] in (float(second) for second in range(int(2 * TICK_INTERVAL))):
        ticks.append(recorded("run/inventory.relay"))
        events.append(recorded("run/order.created"))

    # then
    assert sum(ticks) == 2
    assert all(events)


def test_a_tick_is_a_span_as_the_instrumentation_makes_it(recording: None) -> None:
    # given
    found: list[Span] = []

    def note(**_: object) -> None:
        found.append(get_current_span())

    # when Celery itself runs the task of a tick
    ticks = Celery("ticks", set_as_current=False)

    @ticks.task(name="inventory.relay", lazy=False, shared=False)
    def tick() -> None:
        pass

    with connected(signals.task_postrun, note):
        build_tracer(tick.name, tick, app=ticks)("1", (), {}, {"id": "1"})

    # then
    assert [span.name for span in found] == ["run/inventory.relay"]
    assert found[0].end_time


def test_a_process_that_records_no_more_has_no_receiver(recording: None) -> None:
    assert signals.task_prerun.receivers

    tracing.stop()

    assert not is_heard()


def test_lost_spans_are_told_once_and_so_is_the_end_of_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given
    lost, taken = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    results = [taken, lost, lost, taken, taken]

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return results.pop(0)

    # when
    exporter = _OneLineExporter(Exporter())
    with caplog.at_level(logging.INFO):
        assert [exporter.export([]) for _ in range(5)] == [taken, lost, lost, taken, taken]

    # then
    assert caplog.messages == ["span export failed", "span export resumed"]


def test_a_log_line_names_the_trace_that_is_being_worked_on() -> None:
    # given
    line, other = (logging.LogRecord("x", logging.INFO, "", 1, "text", None, None) for _ in "ab")

    # when
    with tracing.span("work", SpanKind.CONSUMER, TRACEPARENT, {}):
        _WithTraceId().filter(line)
    _WithTraceId().filter(other)

    # then
    assert line.trace_id == TRACE
    assert not hasattr(other, "trace_id")


UNSAMPLED = TRACEPARENT.removesuffix("01") + "00"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadableSpan]]:
    """What the exporter is given; complete after `tracing.stop()`."""
    spans: list[ReadableSpan] = []

    def export(_: object, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        spans.extend(batch)
        return SpanExportResult.SUCCESS

    monkeypatch.setattr("eventbus.telemetry.span_export.OTLPSpanExporter.export", export)
    tracing.start("test", NOWHERE, tasks=True)
    yield spans
    tracing.stop()


def test_trace_that_is_not_sampled_is_passed_on_and_only_its_failures_are_sent(
    sent: list[ReadableSpan],
) -> None:
    # given an event of a trace that is not sampled
    fine, failed = reserved(UNSAMPLED), reserved(UNSAMPLED)

    # when one attempt succeeds and one fails
    attempted([fine])
    attempted([failed], Permanent("no"))
    tracing.stop()

    # then only the failure is sent, as that of a sampled trace is
    (span,) = sent
    assert span.name == f"process {failed.delivery.task}"
    assert span.attributes
    assert span.attributes["event.id"] == failed.delivery.event_id
    assert span.attributes["outcome"] == "parked"
    assert (span.status.status_code, span.parent.trace_id) == (StatusCode.ERROR, int(TRACE, 16))
    assert 0 < span.end_time - span.start_time < 60e9
    # and what follows is not sampled either
    assert tracing.trace_id(fine.traceparent) == TRACE
    assert fine.traceparent
    assert fine.traceparent.endswith("-00")


@pytest.mark.parametrize("reason", ["another attempt", "a late event"])
def test_late_event_and_a_further_attempt_are_sampled_with_what_follows(
    sent: list[ReadableSpan], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "a late event":
        monkeypatch.setattr("eventbus.consumer.attempt.LATE", -1.0)
    item = reserved(UNSAMPLED, attempts=2 if reason == "another attempt" else 1)

    attempted([item])
    tracing.stop()

    assert [span.attributes["event.id"] for span in sent] == [item.delivery.event_id]
    assert item.traceparent
    assert item.traceparent.endswith("-01")


def test_budget_grants_so_many_of_each_name_in_a_second() -> None:
    now = [0.0]
    budget = TraceBudget(2, clock=lambda: now[0])

    first = [budget.grants(name) for name in ("a", "a", "a", "b")]
    now[0] = 1.0

    assert first == [True, True, False, True]
    assert budget.grants("a")
