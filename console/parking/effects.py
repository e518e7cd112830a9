"""The effect that a redrive would have, derived from the service's inbox and from the orders."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from amqp import Message
from sqlalchemy import select

from common.kombu_topology import INVENTORY, ORDER
from console.broker.parked_message import Parked, digest
from console.databases.service_database import sessions
from console.parking.age_limit import is_too_old
from console.settings import ParkingSettings
from eventbus.consumer import parked_events
from eventbus.consumer.inbox import already_handled
from eventbus.database.db import Sessions, transaction
from eventbus.events.versions import versions
from eventbus.messaging import untrusted
from eventbus.topology.service import Service
from order_app.domain import Status
from order_app.storage.models import OrderRow

#: Number of messages whose effects are determined with one query of each database.
BATCH = 500

#: Event types that have no effect, in their service, on an order that is no longer PENDING.
_DECIDES = {
    INVENTORY: ("order.created",),
    ORDER: ("stock.reserved", "stock.rejected"),
}


class Effect(StrEnum):
    """The effect of a redrive."""

    #: The service handles the event.
    HANDLE = "handle"
    #: The service handles the event after the earlier events of its order, which are parked.
    IN_SEQUENCE = "handle in sequence"
    #: The service handles the event, which has no effect, because its order is decided.
    DECIDED = "order already decided"
    #: The service drops the event as a duplicate.
    HANDLED = "already handled"
    #: There is no effect: the event is older than `PARKED_REDRIVE_DAYS` and stays parked.
    TOO_OLD = "too old"
    #: There is no effect: the message is not an event, and no inbox would show that it was handled.
    INVALID = "not an event"

    @property
    def is_redriven(self) -> bool:
        """Whether a plan redrives the message."""
        return self not in {Effect.TOO_OLD, Effect.INVALID}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A parked message that may be redriven."""

    parked: Parked
    digest: str
    #: The dedup key of the event; None if the message is not an event.
    inbox_id: UUID | None
    is_too_old: bool
    #: Whether the message meets the operator's criteria.
    is_chosen: bool

    @classmethod
    def of(
        cls, settings: ParkingSettings, parked: Parked, message: Message, *, is_chosen: bool = True
    ) -> "Candidate":
        """Return a parked message as a candidate."""
        return cls(
            parked=parked,
            digest=digest(message),
            inbox_id=_uuid(untrusted.envelope(message.body).get("id")),
            is_too_old=is_too_old(message, settings),
            is_chosen=is_chosen,
        )


@dataclass(frozen=True)
class Effects:
    """The databases that determine the effects of a service's messages."""

    service: Service
    _inbox: Sessions
    _orders: Sessions

    def of(self, candidates: Sequence[Candidate]) -> list[Effect]:
        """Return the effect of each candidate."""
        handled = self.handled([c.inbox_id for c in candidates if c.inbox_id])
        orders = [_uuid(c.parked.order_id) for c in candidates if self._decides(c)]
        decided = self._decided([order for order in orders if order])
        waiting = self.waiting([c.inbox_id for c in candidates if c.inbox_id])
        return [self._effect(candidate, handled, decided, waiting) for candidate in candidates]

    def handled(self, event_ids: Collection[UUID]) -> set[UUID]:
        """Return which of these events the service has handled."""
        with transaction(self._inbox) as session:
            return already_handled(session, event_ids)

    def waiting(self, event_ids: Collection[UUID]) -> dict[UUID, UUID]:
        """Return which of these events would wait now, each with the parked event ahead of it."""
        if not self.service.parks_in_sequence:
            return {}
        with transaction(self._inbox) as session:
            return parked_events.waiting(session, event_ids)

    def _decides(self, candidate: Candidate) -> bool:
        types = _DECIDES.get(self.service, ())
        return any(candidate.parked.type in versions(event_type) for event_type in types)

    def _decided(self, order_ids: Collection[UUID]) -> set[UUID]:
        if not order_ids:
            return set()
        with transaction(self._orders) as session:
            rows = select(OrderRow.id).where(
                OrderRow.id.in_(order_ids), OrderRow.status != Status.PENDING
            )
            return set(session.scalars(rows))

    def _effect(
        self,
        candidate: Candidate,
        handled: set[UUID],
        decided: set[UUID],
        waiting: Collection[UUID],
    ) -> Effect:
        if candidate.inbox_id is None:
            return Effect.INVALID
        if candidate.is_too_old:
            return Effect.TOO_OLD
        if candidate.inbox_id in handled:
            return Effect.HANDLED
        if candidate.inbox_id in waiting:
            return Effect.IN_SEQUENCE
        is_decided = self._decides(candidate) and _uuid(candidate.parked.order_id) in decided
        return Effect.DECIDED if is_decided else Effect.HANDLE


@contextmanager
def effects(settings: ParkingSettings, service: Service) -> Iterator[Effects]:
    """Open the databases that determine the effects of a service's messages."""
    with sessions(settings, service) as inboxes, sessions(settings, ORDER) as orders:
        yield Effects(service, inboxes, orders)


def _uuid(value: object) -> UUID | None:
    with suppress(ValueError):
        return UUID(value) if isinstance(value, str) else None
    return None
