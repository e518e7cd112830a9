"""The order: its states and the transitions between them, as pure functions on frozen values.

PENDING becomes CONFIRMED or CANCELLED. CONFIRMED becomes CANCELLED at the request of the customer
or of an operator, or SHIPPED when the goods have left the warehouse. SHIPPED and CANCELLED are
final. Late and duplicate transitions are no-ops: the functions return the order unchanged.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """The state of an order."""

    #: The inventory has not replied yet.
    PENDING = "PENDING"
    #: The stock is reserved, and the shop will deliver the goods.
    CONFIRMED = "CONFIRMED"
    #: The goods have left the warehouse.
    SHIPPED = "SHIPPED"
    #: The order will not be delivered; a `Reason` states the cause.
    CANCELLED = "CANCELLED"


class Reason(StrEnum):
    """The reason why an order is cancelled."""

    #: The inventory could not reserve all lines.
    OUT_OF_STOCK = "out_of_stock"
    #: The customer cancelled the order.
    CUSTOMER = "customer"
    #: The order was still PENDING at its deadline.
    DEADLINE = "deadline"
    #: An operator cancelled the order. The operator's explanation is stored separately.
    OPERATOR = "operator"


def status_of(stored: str) -> Status | str:
    """Return a stored status. A status that only a newer release defines remains a string."""
    return Status(stored) if stored in frozenset(Status) else stored


def reason_of(stored: str | None) -> Reason | str | None:
    """Return a stored reason. A reason that only a newer release defines remains a string."""
    return Reason(stored) if stored in frozenset(Reason) else stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of an order; `unit_price` is in minor units of the order's currency."""

    sku: str
    quantity: int
    unit_price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An order that is not stored yet.

    It has no times: the database sets them when it stores the order.
    """

    id: UUID
    customer_email: str
    currency: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """The total price, in minor units of the currency."""
        return sum(line.quantity * line.unit_price for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Draft):
    """A stored order.

    `reason` is set if and only if the order is CANCELLED, `decided_at` if it is no longer PENDING,
    and `shipped_at` if it is SHIPPED. A PENDING order is cancelled at `deadline_at`. A status of a
    newer release is a string: such an order is shown, but never changed.
    """

    created_at: datetime
    deadline_at: datetime
    status: Status | str = Status.PENDING
    reason: Reason | str | None = None
    decided_at: datetime | None = None
    shipped_at: datetime | None = None


#: The states in which each reason can cancel an order.
_CANCELS = {
    Reason.OUT_OF_STOCK: {Status.PENDING},
    Reason.CUSTOMER: {Status.PENDING, Status.CONFIRMED},
    Reason.DEADLINE: {Status.PENDING},
    Reason.OPERATOR: {Status.PENDING, Status.CONFIRMED},
}


def place(draft: Draft, *, created_at: datetime, deadline_at: datetime) -> Order:
    """Return a new order, which is PENDING until `deadline_at` at the latest."""
    return Order(
        id=draft.id,
        customer_email=draft.customer_email,
        currency=draft.currency,
        lines=draft.lines,
        created_at=created_at,
        deadline_at=deadline_at,
    )


def confirm(order: Order, *, now: datetime) -> Order:
    """Return the order as CONFIRMED, or unchanged if it is no longer PENDING."""
    if order.status is not Status.PENDING:
        return order
    return replace(order, status=Status.CONFIRMED, decided_at=now)


def cancel(order: Order, reason: Reason, *, now: datetime) -> Order:
    """Return the order as CANCELLED, or unchanged if this reason can no longer cancel it."""
    if order.status not in _CANCELS[reason]:
        return order
    return replace(order, status=Status.CANCELLED, reason=reason, decided_at=now)


def ship(order: Order, *, now: datetime) -> Order:
    """Return the order as SHIPPED, or unchanged if it is not CONFIRMED."""
    if order.status is not Status.CONFIRMED:
        return order
    return replace(order, status=Status.SHIPPED, shipped_at=now)
