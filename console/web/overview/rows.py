"""The state of one service, from all sources. A value that no source reports is None."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from console.actions.figures import Lately
from console.actions.health import BrokerHealth
from console.actions.missed import Missed
from console.actions.waiting import Waiting
from console.broker.state import Object, figure, rate
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.topology.service import Service

N = TypeVar("N", int, float)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One service. A field is None if it is unknown."""

    service: Service
    depth: int | None = None
    consumers: int | None = None
    #: Number of messages in each retry tier by the name of its queue, shortest tier first.
    tiers: Mapping[str, int | None] | None = None
    parked: int | None = None
    #: Seconds since the parking lot was last empty; 0 if it is empty.
    parked_seconds: float | None = None
    #: Rates per second: messages that enter the queue, handled messages, and published events.
    arriving: float | None = None
    handled: float | None = None
    published: float | None = None
    #: The age of the oldest event in the queue; 0 if the queue is empty.
    oldest_seconds: float | None = None
    #: Seconds since the reader last reached the end of the stream.
    behind_seconds: float | None = None
    waiting: Waiting | None = None
    missed: Missed | None = None
    pause: OperatorPause | None = None

    @property
    def retrying(self) -> int | None:
        """The messages in all retry tiers."""
        return None if self.tiers is None else _total(self.tiers.values())

    @property
    def waiting_seconds(self) -> float | None:
        """The age of the oldest event that its worker or its reader has yet to handle."""
        return self.oldest_seconds if self.service.consumes else self.behind_seconds

    @property
    def relay_problem(self) -> str | None:
        """Why the relay does not publish, or None."""
        last = self.waiting.relay_pass if self.waiting else None
        return last.broker_error if last else None


def row(
    service: Service,
    broker: BrokerHealth | None,
    lately: Lately | None,
    *,
    waiting: Waiting | None = None,
    missed: Missed | None = None,
    pause: OperatorPause | None = None,
    oldest_seconds: float | None = None,
    behind_seconds: float | None = None,
) -> Row:
    """Return the state of a service."""
    queues = _queues(service, broker) if broker else []
    found = broker.state.queues if broker else {}
    depth = _total(figure(queue, "messages") for queue in queues) if broker else None
    parked = figure(found.get(service.parking_lot), "messages")
    parked_seconds = lately.parked.get(service.parking_lot) if lately else None
    return Row(
        service=service,
        depth=depth,
        consumers=_least(figure(queue, "consumers") for queue in queues),
        tiers=_tiers(service, found) if broker else None,
        parked=parked,
        parked_seconds=0.0 if parked == 0 else parked_seconds,
        arriving=_total(rate(queue, "publish") for queue in queues) if queues else None,
        handled=_total(rate(queue, "ack") for queue in queues) if queues else None,
        published=lately.published.get(service.name) if lately else None,
        oldest_seconds=0.0 if depth == 0 else oldest_seconds,
        behind_seconds=behind_seconds,
        waiting=waiting,
        missed=missed,
        pause=pause,
    )


def _queues(service: Service, broker: BrokerHealth) -> list[Object | None]:
    if not service.consumes:
        return [broker.state.queues.get(service.bus.stream)] if service.reads_stream else []
    divided = {each.name: each for each in broker.services}
    return [broker.state.queues.get(name) for name in divided.get(service.name, service).queues]


def _tiers(service: Service, queues: Mapping[str, Object]) -> Mapping[str, int | None]:
    start = f"{service.retry_exchange}."
    names = sorted((name for name in queues if name.startswith(start)), key=_seconds)
    return {name.removeprefix(start): figure(queues[name], "messages") for name in names}


def _seconds(queue: str) -> tuple[float, str]:
    """Return the sort key of a retry queue, whose name ends in its seconds."""
    try:
        return float(queue.rpartition("retry.")[2].removesuffix("s")), queue
    except ValueError:
        return float("inf"), queue


def _total(figures: Iterable[N | None]) -> N | None:
    # If a part of a sum is unknown, the sum is unknown.
    known = _known(figures)
    return None if known is None else sum(known)


def _least(figures: Iterable[int | None]) -> int | None:
    # A part without a consumer makes no progress, even if all other parts have consumers.
    return min(_known(figures) or [], default=None)


def _known(figures: Iterable[N | None]) -> list[N] | None:
    every = list(figures)
    known = [each for each in every if each is not None]
    return known if len(known) == len(every) else None
