"""Traces are sampled by a budget and by the interval of ticks; failures are always sent."""

from collections.abc import Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind, StatusCode

from eventbus.errors import Permanent
from eventbus.telemetry import tracing
from eventbus.telemetry.sampling import TICK_INTERVAL, PassedOn
from eventbus.telemetry.trace_budget import TraceBudget
from testkit.processes.attempt_spans import (
    NOWHERE,
    TRACE,
    TRACEPARENT,
    attempt_spans,
    stock_reserved,
)


def test_one_tick_a_minute_is_sampled() -> None:
    # Given a sampler with its own clock
    now = [0.0]
    sampler = PassedOn(["inventory.relay"], clock=lambda: now[0])

    def recorded(name: str) -> bool:
        return sampler.should_sample(None, 1, name, SpanKind.CONSUMER).decision.is_sampled()

    # When a tick and an event arrive every second
    ticks, events = [], []
    for now[0] in (float(second) for second in range(int(2 * TICK_INTERVAL))):
        ticks.append(recorded("run/inventory.relay"))
        events.append(recorded("run/order.created"))

    # Then each minute has one sampled tick, and every event is sampled
    assert sum(ticks) == 2
    assert all(events)


UNSAMPLED = TRACEPARENT.removesuffix("01") + "00"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ReadableSpan]]:
    """The exported spans; complete after `tracing.stop()`."""
    spans: list[ReadableSpan] = []

    def export(_: object, batch: Sequence[ReadableSpan]) -> SpanExportResult:
        spans.extend(batch)
        return SpanExportResult.SUCCESS

    monkeypatch.setattr("eventbus.telemetry.span_export.OTLPSpanExporter.export", export)
    tracing.start("test", NOWHERE, tasks=True)
    yield spans
    tracing.stop()


def test_only_failures_of_an_unsampled_trace_are_exported(
    sent: list[ReadableSpan],
) -> None:
    # Given an event of a trace that is not sampled
    fine, failed = stock_reserved(UNSAMPLED), stock_reserved(UNSAMPLED)

    # When one attempt succeeds and one fails
    attempt_spans([fine])
    attempt_spans([failed], Permanent("no"))
    tracing.stop()

    # Then only the failure is exported, like a failure of a sampled trace
    (span,) = sent
    assert span.name == f"process {failed.delivery.task}"
    assert span.attributes
    assert span.attributes["event.id"] == failed.delivery.event_id
    assert span.attributes["outcome"] == "parked"
    assert (span.status.status_code, span.parent.trace_id) == (StatusCode.ERROR, int(TRACE, 16))
    assert 0 < span.end_time - span.start_time < 60e9
    # And spans that follow are not sampled
    assert tracing.trace_id(fine.traceparent) == TRACE
    assert fine.traceparent
    assert fine.traceparent.endswith("-00")


@pytest.mark.parametrize("reason", ["another attempt", "a late event"])
def test_late_events_and_further_attempts_are_sampled(
    sent: list[ReadableSpan], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "a late event":
        monkeypatch.setattr("eventbus.consumer.attempt.LATE", -1.0)
    item = stock_reserved(UNSAMPLED, attempts=2 if reason == "another attempt" else 1)

    attempt_spans([item])
    tracing.stop()

    assert [span.attributes["event.id"] for span in sent] == [item.delivery.event_id]
    assert item.traceparent
    assert item.traceparent.endswith("-01")


def test_the_budget_limits_traces_by_name_and_second() -> None:
    now = [0.0]
    budget = TraceBudget(2, clock=lambda: now[0])

    first = [budget.grants(name) for name in ("a", "a", "a", "b")]
    now[0] = 1.0

    assert first == [True, True, False, True]
    assert budget.grants("a")
