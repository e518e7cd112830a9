"""What the API gives: how it shows orders, pages and timelines."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from order_app import domain
from order_app.domain import Reason, Status
from order_app.http import cursor
from order_app.http.requests import Customer, Line
from order_app.storage.timeline import Entry
from order_app.use_cases import Page


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_utc)]


class OrderView(BaseModel):
    """An order."""

    id: UUID
    status: Status | str = Field(description="A later release may add others.")
    reason: Reason | str | None = Field(description="Why it is CANCELLED.")
    customer: Customer
    currency: str
    lines: list[Line]
    total: int = Field(description="In minor units of the currency.")
    created_at: Moment
    decided_at: Moment | None = Field(description="When it was confirmed or cancelled.")
    shipped_at: Moment | None = Field(description="When its goods left the warehouse.")
    deadline_at: Moment = Field(description="When it is cancelled if it is still PENDING.")

    @classmethod
    def of(cls, order: domain.Order) -> "OrderView":
        """Return an order as the API shows it."""
        # What comes from the database was checked on its way in.
        return cls.model_construct(
            id=order.id,
            status=order.status,
            reason=order.reason,
            customer=Customer.model_construct(email=order.customer_email),
            currency=order.currency,
            lines=[
                Line.model_construct(
                    sku=line.sku, quantity=line.quantity, unit_price=line.unit_price
                )
                for line in order.lines
            ],
            total=order.total,
            created_at=_utc(order.created_at),
            decided_at=order.decided_at and _utc(order.decided_at),
            shipped_at=order.shipped_at and _utc(order.shipped_at),
            deadline_at=_utc(order.deadline_at),
        )


class OrderPage(BaseModel):
    """Some orders, newest first."""

    orders: list[OrderView]
    next_cursor: str | None = Field(description="Where the list goes on; null on the last page.")

    @classmethod
    def of(cls, page: Page) -> "OrderPage":
        """Return a page as the API shows it."""
        return cls.model_construct(
            orders=[OrderView.of(order) for order in page.orders],
            next_cursor=cursor.encode(page.next) if page.next else None,
        )


class EventView(BaseModel):
    """One event of an order, and what the order service knows of its way."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    type: str
    source: str
    occurred_at: Moment
    trace_id: str | None
    causation_id: UUID | None = Field(description="The event that this one answers.")
    handled_by: list[str] = Field(description="The services known to have handled it.")
    recorded_at: Moment | None = Field(description="When this service wrote it to its outbox.")
    published_at: Moment | None = Field(description="When the broker confirmed it.")
    unroutable_reason: str | None = Field(description="Why the broker returned it.")
    handled_at: Moment | None = Field(description="When this service handled it.")
    attempts: int | None = Field(description="How many attempts that took.")


class Timeline(BaseModel):
    """Every event of an order that the order service still knows, in order of their times."""

    order_id: UUID
    events: list[EventView]

    @classmethod
    def of(cls, order_id: UUID, entries: list[Entry]) -> "Timeline":
        """Return an order's timeline as the API shows it."""
        return cls(order_id=order_id, events=[EventView.model_validate(e) for e in entries])
