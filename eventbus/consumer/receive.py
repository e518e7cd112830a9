"""What a service does with events, from the bytes to the commit. No Celery in here."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from types import MappingProxyType
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from eventbus.consumer.inbox import first_deliveries
from eventbus.database import outages
from eventbus.database.db import Sessions, transaction
from eventbus.errors import InvalidEvent, Permanent, Transient
from eventbus.events import codec
from eventbus.events.catalogue import current
from eventbus.events.conversion import upcast
from eventbus.events.envelope import Event, EventData
from eventbus.outbox.table import one_statement
from eventbus.telemetry import tracing

log = logging.getLogger(__name__)

Handler = Callable[[Session, Event], None]
Handlers = Mapping[type[EventData], Handler]

#: Does for many events, in one go, what their types' handlers do for one after another. Types with
#: the same one are handled together.
BatchHandler = Callable[[Session, Sequence[Event]], None]
BatchHandlers = Mapping[type[EventData], BatchHandler]
NO_BATCH_HANDLERS: BatchHandlers = MappingProxyType({})


class Outcome(StrEnum):
    """How the handling of an event ended."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    FAILED = "failed"


class Delivery(NamedTuple):
    """A message as its queue delivered it; `attempts` counts this one."""

    task: str
    #: As it came: nothing has parsed it.
    body: bytes | str
    attempts: int
    #: The header of that name: the span of its publishing.
    traceparent: str | None = None
    #: The header `id`.
    event_id: str = ""
    #: Whether earlier deliveries ended with their connection: the event may crash its worker.
    is_suspect: bool = False
    #: All of them, if they are not just those of `event_message.task_headers`.
    headers: Mapping[str, Any] | None = None


class Result(NamedTuple):
    """How one delivery of a batch ended."""

    outcome: Outcome
    #: Why it cannot be handled, ever.
    error: Permanent | None = None
    #: Seconds from the event's own time to its effect; None for a replay, or without an effect.
    lateness: float | None = None


@dataclass(slots=True)
class Item:
    """One delivery of a batch on its way through `receive_batch`."""

    delivery: Delivery
    #: As it came: so it is recorded.
    event: Event | None = None
    #: In the version that the handlers take.
    newest: Event | None = None
    outcome: Outcome = Outcome.FAILED
    #: Why it cannot be handled, ever.
    error: InvalidEvent | None = None
    #: What events that it causes go on from.
    traceparent: str | None = field(default=None)

    @classmethod
    def of(cls, delivery: Delivery, handlers: Handlers) -> "Item":
        """Return a delivery with its event, or with the reason why it carries none."""
        item = cls(delivery)
        try:
            event = _decode(delivery)
            item.newest, item.event = upcast(event, handlers), event
        except InvalidEvent as error:
            item.error = error
        return item

    @property
    def result(self) -> Result:
        """How it ended, once its transaction is committed."""
        lateness = None
        if self.event and self.outcome is Outcome.HANDLED and not self.event.replayed:
            lateness = (datetime.now(UTC) - self.event.time).total_seconds()
        return Result(self.outcome, self.error, lateness)


def receive(
    sessions: Sessions,
    handlers: Handlers,
    body: bytes | str,
    *,
    task: str,
    attempts: int,
    batch_handlers: BatchHandlers = NO_BATCH_HANDLERS,
) -> Outcome:
    """Handle one event once: its effect and its dedup key commit together or not at all.

    `attempts` counts this one. Raises `InvalidEvent` when the body does not carry an event of the
    type that the task is named for, and whatever the handler or the database raises.
    """
    item = Item.of(Delivery(task, body, attempts), handlers)
    receive_one(sessions, handlers, batch_handlers, item)
    return item.outcome


def receive_one(
    sessions: Sessions, handlers: Handlers, batch_handlers: BatchHandlers, item: Item
) -> None:
    """Handle one event once; raises why it cannot be handled, too."""
    item.traceparent = item.traceparent or tracing.traceparent()
    try:
        receive_batch(sessions, handlers, batch_handlers, [item])
    except (Transient, Permanent):
        raise
    except Exception as error:
        _report(item, error)
        raise
    if item.error:
        raise item.error


def receive_batch(
    sessions: Sessions, handlers: Handlers, batch_handlers: BatchHandlers, items: Sequence[Item]
) -> None:
    """Handle many events in one transaction, each as `receive` would, and note their outcomes.

    One that is not an event fails alone. Raises what any handler or the database raises: then
    nothing has happened, and each is to be received by itself.
    """
    with transaction(sessions) as session:
        first = first_deliveries(session, ((i.event, i.delivery.attempts) for i in _valid(items)))
        fresh = []
        for item in _valid(items):
            # Of two copies in one batch only one is the first.
            is_first = item.event.id in first
            first.discard(item.event.id)
            item.outcome = Outcome.HANDLED if is_first else Outcome.DUPLICATE
            if is_first:
                fresh.append(_continued(item.newest, item.traceparent))
        with one_statement(session):
            _handle(session, handlers, batch_handlers, fresh)
    for item in _valid(items):
        fields = _log_fields(item.event, item.delivery.attempts, item.outcome)
        log.info("an event was received", extra=fields)


def _handle(
    session: Session, handlers: Handlers, batch_handlers: BatchHandlers, events: Iterable[Event]
) -> None:
    # Runs of one set handler, so that an order's events keep their order. One of several types gets
    # their events together: it can lock the rows of a whole batch in one order.
    for handle_batch, run in groupby(
        events, key=lambda event: batch_handlers.get(type(event.data))
    ):
        if handle_batch:
            handle_batch(session, list(run))
        else:
            for event in run:
                handlers[type(event.data)](session, event)


def _valid(items: Iterable[Item]) -> Iterable[Any]:
    return (item for item in items if item.event is not None)


def _decode(delivery: Delivery) -> Event:
    event = codec.read(delivery.body)
    if event.type != delivery.task:
        raise InvalidEvent(f"an event of type {event.type} came as {delivery.task}")
    return event


def _report(item: Item, error: Exception) -> None:
    # An outage is logged once, by the worker. Any other error is a bug: its trace is needed, but
    # not its text, which may quote a customer's data: the log's formatter leaves that out.
    if item.event and not outages.reason(error):
        log.error(
            "a handler failed",
            exc_info=error,
            extra=_log_fields(item.event, item.delivery.attempts, Outcome.FAILED),
        )


def _continued(event: Event, traceparent: str | None) -> Event:
    # What the handler appends or records goes on from the attempt's span, if there is one.
    return replace(event, traceparent=traceparent) if traceparent else event


def _log_fields(event: Event, attempts: int, outcome: Outcome) -> dict[str, Any]:
    trace_id = tracing.trace_id(event.traceparent)
    return {
        "event_id": str(event.id),
        "event_type": event.type,
        current().id_field: str(event.subject),
        "attempt": attempts,
        "outcome": outcome.value,
    } | ({"trace_id": trace_id} if trace_id else {})
