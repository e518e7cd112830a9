"""Export of spans over OTLP/HTTP, in the background; imported only if an endpoint is set."""

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

#: Milliseconds between two batches. The interval is long because a request costs as much as dozens
#: of spans, and short enough that a trace is complete soon and a killed process loses few spans.
_DELAY = 2_000

#: Maximum number of spans that wait in memory. Further spans are dropped, so that they do not delay
#: orders.
_QUEUE = 8192

#: Maximum seconds for one batch, including retries. A process that stops does not wait longer than
#: this.
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
    tracer_provider = TracerProvider(
        sampler=PassedOn(ticks),
        resource=Resource.create({"service.name": process, "service.version": release}),
    )
    processor = _SentSpans(
        _OneLineExporter(exporter), max_queue_size=_QUEUE, schedule_delay_millis=_DELAY
    )
    tracer_provider.add_span_processor(processor)
    return tracer_provider


class _SentSpans(BatchSpanProcessor):
    """A processor of sampled and failed spans, except attempts that were rolled back."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue an ended span for export."""
        if is_sent(span) and (span.attributes or {}).get("outcome") != ROLLED_BACK:
            # The base class's method would drop a failed span that is not sampled.
            self._batch_processor.emit(span)


class _OneLineExporter(SpanExporter):
    """An exporter that logs once when export fails, and once when it resumes."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans, which are lost if this fails."""
        result = self._exporter.export(spans)
        failing = result is not SpanExportResult.SUCCESS
        if failing != self._failing:
            if failing:
                log.warning("span export failed")
            else:
                log.info("span export resumed")
        self._failing = failing
        return result

    def shutdown(self) -> None:
        """Shut down the exporter."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return True: this exporter has no queue."""
        return True
