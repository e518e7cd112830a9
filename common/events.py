"""The events: the contracts between the services, as frozen dataclasses.

Every event that was ever sent must decode indefinitely: `tests/contract/golden/` has a sample of
each. A new field has a default. No field is renamed, retyped or removed: see
`orderctl contracts check`.

The descriptions of types and fields are part of the generated documents: after a change, run
`make docs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from msgspec import Meta

from common.event_fields import (
    Amount,
    CancelReason,
    ClientIp,
    Currency,
    Email,
    Pieces,
    RejectReason,
    Sku,
    SuspicionRule,
    Total,
    UnitPrice,
    check_line,
    check_money,
    check_ordered,
    check_price,
)
from eventbus.events.catalogue import Catalogue, Version, use
from eventbus.events.envelope import EventData
from eventbus.events.limits import BeyondLimits, check_not_empty, check_text


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of an order; `unit_price` is in minor units of the order's currency."""

    sku: Sku
    quantity: Pieces
    unit_price: UnitPrice

    def __post_init__(self) -> None:
        check_line(self.sku, self.quantity)
        check_price(self.unit_price)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A quantity of one SKU."""

    sku: Sku
    quantity: Pieces

    def __post_init__(self) -> None:
        check_line(self.sku, self.quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A SKU of which an order requires more than is available; an unknown SKU has none."""

    sku: Annotated[str, Meta(description="The SKU that is short.")]
    requested: Annotated[int, Meta(description="The number of units that the order requires.")]
    available: Annotated[int, Meta(description="The number of units that are available for it.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCreated:
    """A customer placed an order."""

    TYPE: ClassVar[str] = "order.created"
    customer_email: Email
    currency: Currency
    total: Total
    lines: Annotated[tuple[Line, ...], Meta(min_length=1)]
    client_ip: ClientIp = None

    def __post_init__(self) -> None:
        check_ordered(self.customer_email, self.currency, self.total)
        check_not_empty("lines", self.lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """The customer who placed an order."""

    email: Email

    def __post_init__(self) -> None:
        check_text("email", self.email)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount with its currency."""

    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        check_money(self.amount, self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """A line of an order; `unit_price` is in the currency of the order's total."""

    sku: Sku
    quantity: Pieces
    unit_price: Money

    def __post_init__(self) -> None:
        check_line(self.sku, self.quantity)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCreatedV2:
    """A customer placed an order. Each amount has its currency, and the customer is an object.

    The same fact as `order.created`, with the same event id if both are published.
    """

    TYPE: ClassVar[str] = "order.created.v2"
    customer: Customer
    total: Money
    lines: Annotated[tuple[PricedLine, ...], Meta(min_length=1)]
    client_ip: ClientIp = None

    def __post_init__(self) -> None:
        check_not_empty("lines", self.lines)
        same = all(line.unit_price.currency == self.total.currency for line in self.lines)
        if not same:
            raise BeyondLimits("lines and total have different currencies")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfirmed:
    """The stock for an order is reserved, and the shop will deliver it.

    It repeats the whole order, so consumers do not have to store it.
    """

    TYPE: ClassVar[str] = "order.confirmed"
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        check_ordered(self.customer_email, self.currency, self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderShipped:
    """The goods of an order have left the warehouse: it can no longer be cancelled."""

    TYPE: ClassVar[str] = "order.shipped"
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]

    def __post_init__(self) -> None:
        check_ordered(self.customer_email, self.currency, self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """An order is cancelled. `shortages` is not empty if the reason is `out_of_stock`."""

    TYPE: ClassVar[str] = "order.cancelled"
    reason: CancelReason
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]
    shortages: tuple[Shortage, ...] = ()

    def __post_init__(self) -> None:
        check_ordered(self.customer_email, self.currency, self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReserved:
    """All lines of an order are reserved."""

    TYPE: ClassVar[str] = "stock.reserved"
    lines: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockRejected:
    """Nothing is reserved for an order, because of these shortages."""

    TYPE: ClassVar[str] = "stock.rejected"
    reason: RejectReason
    shortages: tuple[Shortage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockReleased:
    """The stock that was reserved for a cancelled order is available again."""

    TYPE: ClassVar[str] = "stock.released"
    lines: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A rule that matched an order."""

    rule: SuspicionRule
    found: Annotated[
        int, Meta(description="The value, above the limit. Orders are counted to one above it.")
    ]
    limit: Annotated[int, Meta(description="The highest value that is still usual.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudSuspected:
    """An order looks like fraud. It is processed anyway; the operator should review it."""

    TYPE: ClassVar[str] = "fraud.suspected"
    customer_email: Email
    currency: Currency
    total: Total
    client_ip: ClientIp = None
    score: Annotated[int, Meta(description="The sum of the points of the rules.")]
    reasons: Annotated[tuple[Suspicion, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        check_ordered(self.customer_email, self.currency, self.total)
        check_not_empty("reasons", self.reasons)


Data = (
    OrderCreated
    | OrderCreatedV2
    | OrderConfirmed
    | OrderShipped
    | OrderCancelled
    | StockReserved
    | StockRejected
    | StockReleased
    | FraudSuspected
)


def _order_created_v2(old: OrderCreated) -> OrderCreatedV2:
    return OrderCreatedV2(
        customer=Customer(email=old.customer_email),
        total=Money(amount=old.total, currency=old.currency),
        lines=tuple(
            PricedLine(
                sku=line.sku,
                quantity=line.quantity,
                unit_price=Money(amount=line.unit_price, currency=old.currency),
            )
            for line in old.lines
        ),
        client_ip=old.client_ip,
    )


def _order_created(new: OrderCreatedV2) -> OrderCreated:
    return OrderCreated(
        customer_email=new.customer.email,
        currency=new.total.currency,
        total=new.total.amount,
        lines=tuple(
            Line(sku=line.sku, quantity=line.quantity, unit_price=line.unit_price.amount)
            for line in new.lines
        ),
        client_ip=new.client_ip,
    )


CATALOGUE = use(
    Catalogue(
        namespace="order-system",
        subject="order",
        contracts=get_args(Data),
        versions=(
            Version(
                old=OrderCreated,
                new=OrderCreatedV2,
                upcast=_order_created_v2,
                downcast=_order_created,
            ),
        ),
    )
)

#: The contract of each event type, which is also the routing key and the name of the Celery task.
EVENTS: Mapping[str, type[EventData]] = CATALOGUE.by_type
