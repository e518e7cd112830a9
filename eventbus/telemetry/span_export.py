"""Sends spans over OTLP/HTTP, in the background; loaded only where an endpoint is set."""

import logging
from collections.abc import Iterable, Sequence

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from eventbus.telemetry.sampling import PassedOn, is_sent
from eventbus.telemetry.tracing import ROLLED_BACK

log = logging.getLogger(__name__)

#: Milliseconds between two batches: a request costs as much as dozens of spans. A trace is whole
#: soon, and a killed process loses little.
_DELAY = 2_000

#: Spans that wait in memory; beyond it they are lost rather than hold up an order.
_QUEUE = 8192

#: Seconds for one batch, repetitions included: a process that stops waits no longer.
_TIMEOUT = 3.0


def provider(
    process: str, endpoint: str, *, release: str, ticks: Iterable[str] = ()
) -> TracerProvider:
    """Return a provider whose spans go to an endpoint such as `http://127.0.0.1:4318`."""
    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint.rstrip('/')}/v1/traces",
        timeout=_TIMEOUT,
        compression=Compression.Gzip,
    )
    made = TracerProvider(
        sampler=PassedOn(ticks),
        resource=Resource.create({"service.name": process, "service.version": release}),
    )
    batches = _Told(_OneLineExporter(exporter), max_queue_size=_QUEUE, schedule_delay_millis=_DELAY)
    made.add_span_processor(batches)
    return made


class _Told(BatchSpanProcessor):
    """Sends what is sampled, and what has failed, but for attempts that were none."""

    def on_end(self, span: ReadableSpan) -> None:
        """Take a span that has ended."""
        if is_sent(span) and (span.attributes or {}).get("outcome") != ROLLED_BACK:
            # The method of the base class takes none that failed without being sampled.
            self._batch_processor.emit(span)


class _OneLineExporter(SpanExporter):
    """Tells once when spans get lost, and once when they arrive again."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._fails = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans; those that cannot be sent are lost."""
        result = self._exporter.export(spans)
        fails = result is not SpanExportResult.SUCCESS
        if fails != self._fails:
            if fails:
                log.warning("spans are lost")
            else:
                log.info("spans arrive again")
        self._fails = fails
        return result

    def shutdown(self) -> None:
        """Send nothing more."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits in here."""
        return True
