"""The fields that several events have, and their limits.

The limits in `Meta` belong to the contract and are checked when an event is decoded. The functions
are called by `__post_init__` when an event is created, and check the limits of the services'
columns and indexes as well.
"""

from typing import Annotated

from msgspec import Meta

from eventbus.events.limits import BIGINT, INTEGER, KEY, BeyondLimits, check_number, check_text

Email = Annotated[str, Meta(description="The address that order notifications are sent to.")]
Currency = Annotated[str, Meta(description="The currency code, as in ISO 4217.")]
ClientIp = Annotated[
    str | None, Meta(description="The IP address that the order was placed from, if known.")
]
Total = Annotated[int, Meta(description="The sum of all lines, in minor units of the currency.")]
Amount = Annotated[int, Meta(ge=0, description="In minor units of the currency.")]
Sku = Annotated[str, Meta(min_length=1, description="The SKU.")]
Pieces = Annotated[int, Meta(ge=1, description="The number of units.")]
UnitPrice = Annotated[
    int, Meta(ge=0, description="The price of one unit, in minor units of the currency.")
]
#: A reason is not an enumeration, because running consumers must not reject a reason that is added
#: later.
CancelReason = Annotated[
    str, Meta(description="`out_of_stock`, `customer`, `deadline` or `operator`.")
]
RejectReason = Annotated[str, Meta(description="`out_of_stock`.")]
SuspicionRule = Annotated[
    str, Meta(description="`email_orders`, `ip_orders`, `amount`, `pieces` or `skus`.")
]


def check_line(sku: str, quantity: int) -> None:
    """Raise `BeyondLimits` unless a SKU, a quantity, and sums of quantities can be stored."""
    if not 0 < len(sku) <= KEY:
        raise BeyondLimits(f"sku has more than {KEY} characters" if sku else "sku is empty")
    if not 1 <= quantity <= INTEGER:
        raise BeyondLimits(f"quantity is {'below 1' if quantity < 1 else f'above {INTEGER}'}")


def check_price(unit_price: int) -> None:
    """Raise `BeyondLimits` unless a price can be stored."""
    check_number("unit_price", unit_price, 0, BIGINT)


def check_money(amount: int, currency: str) -> None:
    """Raise `BeyondLimits` unless an amount can be stored."""
    check_number("amount", amount, 0, BIGINT)
    check_text("currency", currency)


def check_ordered(customer_email: str, currency: str, total: int) -> None:
    """Raise `BeyondLimits` unless the values of an order can be stored."""
    check_text("customer_email", customer_email)
    check_text("currency", currency)
    check_number("total", total, -BIGINT, BIGINT)
