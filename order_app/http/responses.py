"""The API's responses: orders, pages and timelines."""

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


UtcTime = Annotated[datetime, AfterValidator(_utc)]


class OrderResponse(BaseModel):
    """An order."""

    id: UUID
    status: Status | str = Field(description="Later releases may add values.")
    reason: Reason | str | None = Field(description="The reason, if the order is CANCELLED.")
    customer: Customer
    currency: str
    lines: list[Line]
    total: int = Field(description="In minor units of the currency.")
    created_at: UtcTime
    decided_at: UtcTime | None = Field(description="When the order was confirmed or cancelled.")
    shipped_at: UtcTime | None = Field(description="When the goods left the warehouse.")
    deadline_at: UtcTime = Field(description="When the order is cancelled if it is still PENDING.")

    @classmethod
    def of(cls, order: domain.Order) -> "OrderResponse":
        """Return the response for an order."""
        # The response is not validated, because values from the database were validated on input.
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
    """A page of orders, newest first."""

    orders: list[OrderResponse]
    next_cursor: str | None = Field(description="The cursor of the next page; null on the last.")

    @classmethod
    def of(cls, page: Page) -> "OrderPage":
        """Return the response for a page."""
        return cls.model_construct(
            orders=[OrderResponse.of(order) for order in page.orders],
            next_cursor=cursor.encode(page.next) if page.next else None,
        )


class EventResponse(BaseModel):
    """An event of an order, with its publication or its handling."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID
    type: str
    source: str
    occurred_at: UtcTime
    trace_id: str | None
    causation_id: UUID | None = Field(description="The id of the event that caused this one.")
    handled_by: list[str] = Field(description="The services known to have handled the event.")
    recorded_at: UtcTime | None = Field(description="When this service wrote it to its outbox.")
    published_at: UtcTime | None = Field(description="When the broker confirmed it.")
    unroutable_reason: str | None = Field(description="Why the broker returned it.")
    handled_at: UtcTime | None = Field(description="When this service handled it.")
    attempts: int | None = Field(description="The number of attempts that handling took.")


class Timeline(BaseModel):
    """The events of an order that the order service still stores, sorted by time."""

    order_id: UUID
    events: list[EventResponse]

    @classmethod
    def of(cls, order_id: UUID, entries: list[Entry]) -> "Timeline":
        """Return the response for an order's timeline."""
        events = [EventResponse.model_validate(entry) for entry in entries]
        return cls(order_id=order_id, events=events)
