"""A span continues the trace of its parent; without an endpoint nothing is recorded or loaded."""

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanKind

from eventbus.telemetry import tracing
from eventbus.telemetry.logs import _WithTraceId
from eventbus.telemetry.span_export import _OneLineExporter
from testkit.processes.attempt_spans import (
    NOWHERE,
    TRACE,
    TRACEPARENT,
)

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


FORKED = """
import os
from eventbus.telemetry import tracing
tracing.unrecorded(None)
for _ in range(2):
    if (pid := os.fork()) == 0:
        print(tracing.traceparent(tracing.unrecorded(None)), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
print(tracing.traceparent(tracing.unrecorded(None)))
"""


def test_forked_processes_start_different_traces() -> None:
    # Given a process that has started a trace, and then two children
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        cwd=Path(__file__).parents[3],
        env={},
        capture_output=True,
        text=True,
        check=True,
    )

    # Then the next traces of all three differ
    assert len(set(done.stdout.split())) == 3


def test_without_an_endpoint_a_trace_is_only_propagated() -> None:
    # Given a process without OTLP_ENDPOINT
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, TRACEPARENT],
        cwd=Path(__file__).parents[3],
        env={},
        capture_output=True,
        text=True,
        check=False,
    )

    # Then it has one thread and no exporter, and passes the parent on
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [TRACEPARENT, 1, []]


def test_a_recorded_span_continues_the_trace_with_its_own_id(recording: None) -> None:
    with tracing.span("work", SpanKind.CONSUMER, TRACEPARENT, {}):
        inner = tracing.traceparent()

    assert tracing.trace_id(inner) == TRACE
    assert inner != TRACEPARENT
    assert tracing.traceparent() is None


def test_the_export_thread_ends_with_the_recording() -> None:
    # Given a process that records spans
    before = threading.active_count()
    tracing.start("test", NOWHERE)
    tracing.start("test", NOWHERE)
    assert threading.active_count() == before + 1

    # When recording stops
    tracing.stop()

    # Then the thread has ended
    assert threading.active_count() == before
    assert not tracing.recording()


@pytest.mark.parametrize(
    "parent", [None, "", 7, b"x", [TRACEPARENT], TRACEPARENT.upper(), "00-1-2-01"]
)
def test_an_invalid_traceparent_is_not_a_parent(recording: None, parent: object) -> None:
    with tracing.span("work", SpanKind.CONSUMER, parent, {}):
        current = tracing.traceparent()

    assert tracing.trace_id(parent) is None
    assert tracing.trace_id(current) not in (None, TRACE)


def test_a_request_without_a_trace_starts_one() -> None:
    first, second = (tracing.traceparent(tracing.unrecorded(None)) for _ in range(2))

    assert tracing.trace_id(first) is not None
    assert tracing.trace_id(first) != tracing.trace_id(second)
    assert tracing.traceparent(tracing.unrecorded(TRACEPARENT)) == TRACEPARENT


def test_lost_spans_and_the_recovery_are_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given an exporter that fails twice
    failed, sent = SpanExportResult.FAILURE, SpanExportResult.SUCCESS
    results = [sent, failed, failed, sent, sent]

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return results.pop(0)

    # When spans are exported five times
    exporter = _OneLineExporter(Exporter())
    with caplog.at_level(logging.INFO):
        assert [exporter.export([]) for _ in range(5)] == [sent, failed, failed, sent, sent]

    # Then the outage and its end are logged once each
    assert caplog.messages == ["span export failed", "span export resumed"]


def test_a_log_line_has_the_id_of_the_current_trace() -> None:
    # Given two log records
    line, other = (logging.LogRecord("x", logging.INFO, "", 1, "text", None, None) for _ in "ab")

    # When one of them is written inside a span
    with tracing.span("work", SpanKind.CONSUMER, TRACEPARENT, {}):
        _WithTraceId().filter(line)
    _WithTraceId().filter(other)

    # Then it alone has a trace id
    assert line.trace_id == TRACE
    assert not hasattr(other, "trace_id")


#: A process with an invalid variable of OpenTelemetry's.
INVALID = """
import os
os.environ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"] = "10000"
from eventbus.settings.base import Settings
from eventbus.telemetry import tracing
from eventbus.telemetry.logs import configure_logging
configure_logging("INFO")
for _ in range(3):
    tracing.start("test", Settings(otlp_endpoint="http://127.0.0.1:1"), tasks=True)
print("works", tracing.recording())
"""


def test_a_process_works_without_spans_that_cannot_be_recorded() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INVALID], capture_output=True, text=True, timeout=60, check=True
    )

    # Then one line reports it
    line, last = done.stdout.splitlines()
    assert json.loads(line)["message"] == "spans not recorded"
    assert last == "works False"
