"""Spans of tasks, made by OpenTelemetry's instrumentation of Celery; loaded only where it records.

The attributes of an event's span are set in `eventbus.consumer.attempt`; those of a tick's span by
the instrumentation.
"""

from typing import Any

from opentelemetry.instrumentation.celery import CeleryInstrumentor
from opentelemetry.sdk.trace import TracerProvider


class _Instrumentor(CeleryInstrumentor):
    """The instrumentation, but for what it quotes of an error, which may name a customer."""

    # Not that of the base class, which somebody else may have made.
    _instance = None

    @staticmethod
    def _trace_failure(*_: Any, **__: Any) -> None:
        """Leave it to `eventbus.consumer.attempt`, which describes the error."""

    @staticmethod
    def _trace_retry(*_: Any, **__: Any) -> None:
        """Leave it to `eventbus.consumer.attempt`, which describes the error."""


_instrumentor = _Instrumentor()  # type: ignore[no-untyped-call]


def begin(provider: TracerProvider) -> None:
    """Make a span of each task that this process runs from now on."""
    _instrumentor.instrument(tracer_provider=provider)


def end() -> None:
    """Make no more of them."""
    _instrumentor.uninstrument()
