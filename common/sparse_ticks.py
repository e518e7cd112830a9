"""Which spans are recorded: all but most ticks."""

import time
from collections.abc import Callable, Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from common.kombu_topology import SERVICES

#: Seconds between two ticks that a process records: they are all alike, and come every second.
TICK_INTERVAL = 60.0

_TICKS = frozenset(f"run/{service.tick_queue(t)}" for service in SERVICES for t in service.ticks)


class SparseTicks(Sampler):
    """Records everything but ticks, and of those one a minute.

    It does not ask what a client's sampling flag says: its order must be found like any other.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
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
        """Return whether to record a span that begins."""
        if name in _TICKS:
            now = self._clock()
            if now - self._last < TICK_INTERVAL:
                return SamplingResult(Decision.DROP)
            self._last = now
        return ALWAYS_ON.should_sample(parent_context, trace_id, name, kind, attributes, links)

    def get_description(self) -> str:
        """Return the sampler's name."""
        return type(self).__name__
