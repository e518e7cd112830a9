"""Task spans from OpenTelemetry's Celery instrumentation; imported only if spans are recorded.

`eventbus.consumer.attempt` sets the attributes of an event's span, and the instrumentation sets the
attributes of a tick's span.
"""

from typing import Any

from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider


class _Instrumentor(CeleryInstrumentor):
    """The instrumentation, without the text of errors, which may contain customers' data."""

    # Bypass the singleton of the base class, which other code may have created.
    _instance = None

    @staticmethod
    def _trace_failure(*_: Any, **__: Any) -> None:
        """Do nothing: `eventbus.consumer.attempt` describes the error."""

    @staticmethod
    def _trace_retry(*_: Any, **__: Any) -> None:
        """Do nothing: `eventbus.consumer.attempt` describes the error."""


_instrumentor = _Instrumentor()  # type: ignore[no-untyped-call]


def begin(provider: TracerProvider) -> None:
    """Start to create a span for each task that this process runs."""
    _instrumentor.instrument(tracer_provider=provider)


def end() -> None:
    """Create no more spans for tasks."""
    _instrumentor.uninstrument()
