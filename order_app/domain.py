"""The order: its states and the rules between them, as pure functions on frozen values.

PENDING becomes CONFIRMED or CANCELLED; CONFIRMED becomes CANCELLED if the customer wants so, or
SHIPPED when the goods have left. SHIPPED and CANCELLED are final.
Whatever comes too late or twice changes nothing: the functions then return the order they got.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """Where an order stands."""

    #: Waits for the inventory's answer.
    PENDING = "PENDING"
    #: Its stock is reserved: the shop will deliver it.
    CONFIRMED = "CONFIRMED"
    #: The goods have left the warehouse.
    SHIPPED = "SHIPPED"
    #: It is off, for a `Reason`.
    CANCELLED = "CANCELLED"


class Reason(StrEnum):
    """Why an order is off."""

    #: The inventory could not reserve all of its lines.
    OUT_OF_STOCK = "out_of_stock"
    #: The customer wanted so.
    CUSTOMER = "customer"
    #: Nobody decided about it in time.
    DEADLINE = "deadline"


def status_of(stored: str) -> Status | str:
    """Return a stored status; one that a newer release has written is only a text here."""
    return Status(stored) if stored in frozenset(Status) else stored


def reason_of(stored: str | None) -> Reason | str | None:
    """Return a stored reason; one that a newer release has written is only a text here."""
    return Reason(stored) if stored in frozenset(Reason) else stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One position of an order; `unit_price` in minor units of the order's currency."""

    sku: str
    quantity: int
    unit_price: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a customer wants, before it is stored.

    It has no moments: they are those of the database that stores it.
    """

    id: UUID
    customer_email: str
    currency: str
    lines: tuple[Line, ...]

    @property
    def total(self) -> int:
        """What all of it costs, in minor units of its currency."""
        return sum(line.quantity * line.unit_price for line in self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order(Draft):
    """What a customer wants, and what became of it.

    `reason` is set exactly while the order is CANCELLED, `decided_at` from the moment it is no
    longer PENDING, `shipped_at` while it is SHIPPED. A PENDING order is cancelled at `deadline_at`.
    A status of a newer release is a text: such an order is shown, and nothing changes it.
    """

    created_at: datetime
    deadline_at: datetime
    status: Status | str = Status.PENDING
    reason: Reason | str | None = None
    decided_at: datetime | None = None
    shipped_at: datetime | None = None


#: From which states each reason may cancel an order.
_CANCELS = {
    Reason.OUT_OF_STOCK: {Status.PENDING},
    Reason.CUSTOMER: {Status.PENDING, Status.CONFIRMED},
    Reason.DEADLINE: {Status.PENDING},
}


def place(draft: Draft, *, created_at: datetime, deadline_at: datetime) -> Order:
    """Return a new order, PENDING until `deadline_at` at the latest."""
    return Order(
        id=draft.id,
        customer_email=draft.customer_email,
        currency=draft.currency,
        lines=draft.lines,
        created_at=created_at,
        deadline_at=deadline_at,
    )


def confirm(order: Order, *, now: datetime) -> Order:
    """Return the order CONFIRMED, or unchanged if it is PENDING no more."""
    if order.status is not Status.PENDING:
        return order
    return replace(order, status=Status.CONFIRMED, decided_at=now)


def cancel(order: Order, reason: Reason, *, now: datetime) -> Order:
    """Return the order CANCELLED, or unchanged if this reason cannot cancel it any more."""
    if order.status not in _CANCELS[reason]:
        return order
    return replace(order, status=Status.CANCELLED, reason=reason, decided_at=now)


def ship(order: Order, *, now: datetime) -> Order:
    """Return the order SHIPPED, or unchanged if it is not CONFIRMED."""
    if order.status is not Status.CONFIRMED:
        return order
    return replace(order, status=Status.SHIPPED, shipped_at=now)
