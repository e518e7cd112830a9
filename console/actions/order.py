"""An order with its recorded events, and shipping or cancelling it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseServer, DatabaseSettings
from order_app import use_cases
from order_app.domain import Order, Reason
from order_app.storage.models import CancellationRow, ShipmentRow
from order_app.storage.timeline import Entry, timeline


@dataclass(frozen=True, kw_only=True)
class Cancellation:
    """An operator's cancellation of an order."""

    reason: str
    cancelled_by: str
    cancelled_at: datetime


@dataclass(frozen=True, kw_only=True)
class Story:
    """An order, its events sorted by their times, and the actions of operators.

    `shipped_by` is the operator who has shipped the order, if an operator has.
    """

    order: Order
    events: tuple[Entry, ...]
    cancellation: Cancellation | None = None
    shipped_by: str | None = None


def show(settings: DatabaseServer, order_id: UUID) -> Story:
    """Return an order and its timeline. Raises `UnknownOrder`."""
    with transaction(settings, ORDER) as session:
        row = session.get(CancellationRow, order_id)
        shipment = session.get(ShipmentRow, order_id)
        return Story(
            order=use_cases.get(session, order_id),
            events=tuple(timeline(session, order_id)),
            cancellation=_cancellation(row) if row else None,
            shipped_by=shipment.shipped_by if shipment else None,
        )


def ship(settings: DatabaseSettings, order_id: UUID, *, operator: str) -> Order:
    """Record that an order's goods have left, and the operator's name.

    An order that was shipped before is unchanged.

    Raises `ActionError` if the order does not exist, or is not CONFIRMED.
    """
    with transaction(settings, ORDER) as session:
        try:
            order = use_cases.ship_as_operator(session, order_id, operator=operator)
        except use_cases.UnknownOrder:
            raise ActionError(f"order {order_id} does not exist") from None
    if problem := use_cases.why_not_shipped(order):
        raise ActionError(f"order {order_id} was not shipped. {problem}")
    return order


def cancel(settings: DatabaseSettings, order_id: UUID, *, reason: str, operator: str) -> Order:
    """Cancel a PENDING or CONFIRMED order, and record the operator's reason and name.

    An order that an operator has cancelled before is unchanged. Raises `ActionError` if the order
    does not exist, is SHIPPED, or was cancelled for another reason.
    """
    with transaction(settings, ORDER) as session:
        try:
            order = use_cases.cancel_as_operator(
                session, order_id, reason=reason, operator=operator
            )
        except use_cases.UnknownOrder:
            raise ActionError(f"order {order_id} does not exist") from None
    if problem := use_cases.why_not_cancelled(order, Reason.OPERATOR):
        raise ActionError(f"order {order_id} was not cancelled. {problem}")
    return order


def _cancellation(row: CancellationRow) -> Cancellation:
    return Cancellation(
        reason=row.reason, cancelled_by=row.cancelled_by, cancelled_at=row.cancelled_at
    )
