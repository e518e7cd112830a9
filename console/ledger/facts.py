"""The facts about an order in several services, and the rules for their agreement."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from analytics_worker.domain import Outcome
from analytics_worker.models import OrderRow as ProjectedOrder
from common.kombu_topology import ANALYTICS, INVENTORY, NOTIFICATION
from eventbus.topology.service import Service
from inventory_worker.domain import Status as Held
from inventory_worker.models import Reservation, ReservationLine
from notification_worker.domain import Kind
from notification_worker.models import Notification
from order_app.domain import Reason, Status
from order_app.storage.models import LineRow, OrderRow

#: A service's record of an order, whose type depends on the service.
Fact = Any


#: The statuses to which rules apply. A status of a newer release has no rule.
_HOLDING: Mapping[str, tuple[str, ...]] = {
    Status.CONFIRMED: (Held.RESERVED, Held.SHIPPED),
    Status.SHIPPED: (Held.SHIPPED,),
}
_MAILED: Mapping[str, frozenset[str]] = {
    Status.CONFIRMED: frozenset({Kind.CONFIRMED}),
    Status.SHIPPED: frozenset({Kind.CONFIRMED, Kind.SHIPPED}),
}
_OUTCOMES: Mapping[str, str] = {
    Status.PENDING: Outcome.OPEN,
    Status.CONFIRMED: Outcome.CONFIRMED,
    Status.SHIPPED: Outcome.SHIPPED,
    Status.CANCELLED: Outcome.CANCELLED,
}


class OrderFacts(NamedTuple):
    """An order in the order service, with its total quantity of each SKU."""

    id: UUID
    status: str
    reason: str | None
    created_at: datetime
    quantities: Mapping[str, int]

    @property
    def is_rejected(self) -> bool:
        """Whether the order was cancelled for lack of stock."""
        return self.reason == Reason.OUT_OF_STOCK


@dataclass(frozen=True)
class Comparison:
    """A comparison of orders with the records of one service."""

    service: Service
    #: A function that returns the facts of these orders, by the order's id.
    read: Callable[[Session, Sequence[UUID]], Mapping[UUID, Fact]]
    #: A function that returns the disagreement, or None. The fact is None if the service has none.
    problem: Callable[[OrderFacts, Fact | None], str | None]


def orders(session: Session, ids: Sequence[UUID]) -> dict[UUID, OrderFacts]:
    """Return orders by id."""
    columns = (OrderRow.id, OrderRow.status, OrderRow.reason, OrderRow.created_at)
    rows = session.execute(select(*columns).where(OrderRow.id.in_(ids))).all()
    lines = select(LineRow.order_id, LineRow.sku, LineRow.quantity)
    quantities = _quantities(session.execute(lines.where(LineRow.order_id.in_(ids))).all())
    return {row.id: OrderFacts(*row, quantities[row.id]) for row in rows}


def _reservations(session: Session, ids: Sequence[UUID]) -> dict[UUID, Fact]:
    columns = (Reservation.order_id, Reservation.status)
    rows = session.execute(select(*columns).where(Reservation.order_id.in_(ids))).all()
    line = ReservationLine
    lines = select(line.order_id, line.sku, line.quantity).where(line.order_id.in_(ids))
    quantities = _quantities(session.execute(lines).all())
    return {row.order_id: (row.status, quantities[row.order_id]) for row in rows}


def _reservation_problem(order: OrderFacts, fact: Fact | None) -> str | None:
    status, quantities = fact or (None, {})
    wanted = _HOLDING.get(order.status)
    if wanted and status not in wanted:
        return f"{order.status}, but its reservation is {status or 'missing'}"
    if wanted and quantities != order.quantities:
        return f"{order.status}, but its reservation has other quantities"
    if order.status == Status.CANCELLED and status == Held.RESERVED:
        return "CANCELLED, but its stock is still reserved"
    return None


def _mails(session: Session, ids: Sequence[UUID]) -> dict[UUID, Fact]:
    columns = (Notification.order_id, Notification.kind)
    kinds = defaultdict(set)
    for order_id, kind in session.execute(select(*columns).where(Notification.order_id.in_(ids))):
        kinds[order_id].add(kind)
    return kinds


def _mail_problem(order: OrderFacts, fact: Fact | None) -> str | None:
    wanted = {Kind.RECEIVED} | _MAILED.get(order.status, frozenset())
    if order.status == Status.CANCELLED:
        wanted |= {Kind.REJECTED if order.is_rejected else Kind.CANCELLED}
    missing = sorted(wanted - (fact or set()))
    return f"{order.status}, but it has no email {', '.join(missing)}" if missing else None


def _outcomes(session: Session, ids: Sequence[UUID]) -> dict[UUID, Fact]:
    columns = (ProjectedOrder.id, ProjectedOrder.outcome)
    rows = session.execute(select(*columns).where(ProjectedOrder.id.in_(ids)))
    return {row.id: row.outcome for row in rows}


def _outcome_problem(order: OrderFacts, fact: Fact | None) -> str | None:
    wanted = Outcome.REJECTED if order.is_rejected else _OUTCOMES.get(order.status)
    if wanted is None or fact == wanted:
        return None
    return f"{order.status}, but {fact or 'missing'} in the analytics"


def _quantities(rows: Sequence[Any]) -> defaultdict[UUID, dict[str, int]]:
    quantities: defaultdict[UUID, dict[str, int]] = defaultdict(dict)
    for order_id, sku, quantity in rows:
        quantities[order_id][sku] = quantities[order_id].get(sku, 0) + quantity
    return quantities


RESERVATIONS = Comparison(INVENTORY, _reservations, _reservation_problem)
MAILS = Comparison(NOTIFICATION, _mails, _mail_problem)
OUTCOMES = Comparison(ANALYTICS, _outcomes, _outcome_problem)
