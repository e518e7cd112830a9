"""The events: the contracts between the services, as plain frozen values.

An event that was ever sent must decode for ever: `tests/contract/golden/` keeps a sample of each.
New fields get a default; nothing is renamed, retyped or removed: `orderctl contracts check`.

What is said here of types and fields is in the documents, too; after a change: `make docs`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, get_args

from msgspec import Meta

from eventbus.errors import InvalidEvent
from eventbus.events.catalogue import Catalogue, Version, use
from eventbus.events.envelope import EventData

# A limit is said twice: here for what is decoded, in `__post_init__` for what we make ourselves.
Email = Annotated[str, Meta(description="Where news of the order goes.")]
Currency = Annotated[str, Meta(description="ISO 4217.")]
ClientIp = Annotated[
    str | None, Meta(description="The address that the order was placed from, if it is known.")
]
Total = Annotated[int, Meta(description="The sum over all lines, in minor units of the currency.")]
Amount = Annotated[int, Meta(ge=0, description="In minor units of the currency.")]
Sku = Annotated[str, Meta(min_length=1, description="What is ordered.")]
Pieces = Annotated[int, Meta(ge=1, description="How many pieces.")]
UnitPrice = Annotated[int, Meta(ge=0, description="Of one piece, in minor units of the currency.")]
#: Not an enumeration: consumers that run must not refuse a reason that is added later.
CancelReason = Annotated[str, Meta(description="`out_of_stock`, `customer` or `deadline`.")]
RejectReason = Annotated[str, Meta(description="`out_of_stock`.")]
SuspicionRule = Annotated[
    str, Meta(description="`email_orders`, `ip_orders`, `amount`, `pieces` or `skus`.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One position of an order; `unit_price` in minor units of the order's currency."""

    sku: Sku
    quantity: Pieces
    unit_price: UnitPrice

    def __post_init__(self) -> None:
        _check(self.sku != "", "sku is empty")
        _check(self.quantity >= 1, "quantity is below 1")
        _check(self.unit_price >= 0, "unit_price is below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """So many of one SKU."""

    sku: Sku
    quantity: Pieces

    def __post_init__(self) -> None:
        _check(self.sku != "", "sku is empty")
        _check(self.quantity >= 1, "quantity is below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """A SKU of which an order wants more than is available; an unknown SKU has none available."""

    sku: Annotated[str, Meta(description="What is short.")]
    requested: Annotated[int, Meta(description="How many pieces the order wants.")]
    available: Annotated[int, Meta(description="How many pieces are left for it.")]


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
        _check(bool(self.lines), "lines is empty")


@dataclass(frozen=True, slots=True, kw_only=True)
class Customer:
    """Who placed an order."""

    email: Email


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """An amount that says in which currency."""

    amount: Amount
    currency: Currency

    def __post_init__(self) -> None:
        _check(self.amount >= 0, "amount is below 0")


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """One position of an order; what a piece costs is in the currency of the order's total."""

    sku: Sku
    quantity: Pieces
    unit_price: Money

    def __post_init__(self) -> None:
        _check(self.sku != "", "sku is empty")
        _check(self.quantity >= 1, "quantity is below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCreatedV2:
    """A customer placed an order. Each amount says its currency, and the customer has a place.

    The same fact as `order.created`, and with the same event id where both are published.
    """

    TYPE: ClassVar[str] = "order.created.v2"
    customer: Customer
    total: Money
    lines: Annotated[tuple[PricedLine, ...], Meta(min_length=1)]
    client_ip: ClientIp = None

    def __post_init__(self) -> None:
        _check(bool(self.lines), "lines is empty")
        same = all(line.unit_price.currency == self.total.currency for line in self.lines)
        _check(same, "lines have another currency than total")


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderConfirmed:
    """The stock for an order is reserved: the shop will deliver it.

    It says all of the order again, so that no consumer must remember it.
    """

    TYPE: ClassVar[str] = "order.confirmed"
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderShipped:
    """The goods of an order have left the warehouse: it cannot be cancelled any more."""

    TYPE: ClassVar[str] = "order.shipped"
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled:
    """An order is off, for a reason; `shortages` has some when that is `out_of_stock`."""

    TYPE: ClassVar[str] = "order.cancelled"
    reason: CancelReason
    customer_email: Email
    currency: Currency
    total: Total
    lines: tuple[Line, ...]
    shortages: tuple[Shortage, ...] = ()


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
    """What was reserved for a cancelled order is available again."""

    TYPE: ClassVar[str] = "stock.released"
    lines: tuple[Quantity, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspicion:
    """A rule that an order breaks."""

    rule: SuspicionRule
    found: Annotated[int, Meta(description="Above the limit. Orders are counted to one above it.")]
    limit: Annotated[int, Meta(description="What is still usual.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class FraudSuspected:
    """An order looks like fraud. It goes on all the same: somebody should look at it."""

    TYPE: ClassVar[str] = "fraud.suspected"
    customer_email: Email
    currency: Currency
    total: Total
    client_ip: ClientIp = None
    score: Annotated[int, Meta(description="The sum of the rules' points.")]
    reasons: Annotated[tuple[Suspicion, ...], Meta(min_length=1)]

    def __post_init__(self) -> None:
        _check(bool(self.reasons), "reasons is empty")


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

#: Each event type's contract; the type is also the routing key and the Celery task's name.
EVENTS: Mapping[str, type[EventData]] = CATALOGUE.by_type


def _check(holds: bool, problem: str) -> None:
    if not holds:
        raise InvalidEvent(problem)
