"""Sampling: the spans of sampled traces, of all failures and of a few ticks are exported.

The API samples a number of requests per second and route, and propagates the decision in the flag
of the `traceparent`. Spans of other traces are also created, because a failed span is always
exported. The exception is task spans, the majority: for these, `eventbus.consumer.attempt` creates
a span only when an attempt fails.
"""

import time
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode, TraceState, get_current_span
from opentelemetry.util.types import Attributes

#: Seconds between two ticks that a process records. Ticks arrive every second and do not differ.
TICK_INTERVAL = 60.0

#: The prefix of task names in the spans of the Celery instrumentation.
_TASK_PREFIX = "run/"


class PassedOn(Sampler):
    """A sampler that follows the parent's flag, and samples one tick per minute."""

    def __init__(
        self, ticks: Iterable[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ticks` are the task names of ticks."""
        self._ticks = frozenset(_TASK_PREFIX + tick for tick in ticks)
        self._clock = clock
        self._last = -TICK_INTERVAL

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """Return whether to record a new span, and whether it is sampled."""
        if name in self._ticks:
            now = self._clock()
            if now - self._last < TICK_INTERVAL:
                return SamplingResult(Decision.DROP)
            self._last = now
        parent = get_current_span(parent_context).get_span_context()
        if parent.is_valid and not parent.trace_flags.sampled:
            is_task = name.startswith(_TASK_PREFIX)
            return SamplingResult(Decision.DROP if is_task else Decision.RECORD_ONLY, attributes)
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Return the sampler's name."""
        return type(self).__name__


def is_sent(span: ReadableSpan) -> bool:
    """Return whether to send an ended span: it is sampled, or has failed."""
    return bool(
        (span.context and span.context.trace_flags.sampled)
        or span.status.status_code is StatusCode.ERROR
    )
