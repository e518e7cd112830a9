"""The rules of the fraud check, as pure functions on plain values, and the points of each rule.

A rule depends on the order and on the number of orders that were placed before it. The judgement of
an order therefore does not depend on when, or how often, its event arrives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address, ip_address, ip_network


class Rule(StrEnum):
    """A property of an order that may indicate fraud."""

    #: The customer placed many orders from one email address in a short time.
    EMAIL_ORDERS = "email_orders"
    #: Many orders came from one IP address in a short time.
    IP_ORDERS = "ip_orders"
    #: The order has a high total.
    AMOUNT = "amount"
    #: The order has many units.
    PIECES = "pieces"
    #: The order has many different SKUs.
    SKUS = "skus"


#: The points that each rule adds to the score of an order that breaks it. A high total, or many
#: orders of one customer, is sufficient by itself. The other rules require a second sign, because
#: an office shares an IP address, and a café orders many units of many SKUs.
POINTS = {
    Rule.EMAIL_ORDERS: 60,
    Rule.IP_ORDERS: 40,
    Rule.AMOUNT: 60,
    Rule.PIECES: 40,
    Rule.SKUS: 30,
}

#: Number of bits of an IPv6 address that identify the network of a household or an office, which
#: assigns the other bits itself.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest usual values; `amounts` are by currency, in minor units."""

    window: timedelta
    email_orders: int
    ip_orders: int
    amounts: Mapping[str, int]
    pieces: int
    skus: int
    #: The score from which an order is suspected.
    score: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The input of the rules; the numbers of orders in the window include this order."""

    currency: str
    total: int
    pieces: int
    skus: int
    email_orders: int
    ip_orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A rule that an order breaks, with the value `found` and the limit that it exceeds."""

    rule: Rule
    found: int
    limit: int


def signs(facts: Facts, limits: Limits) -> tuple[Sign, ...]:
    """Return the rules that the order breaks. Totals in other currencies break no rule."""
    values = {
        Rule.EMAIL_ORDERS: (facts.email_orders, limits.email_orders),
        Rule.IP_ORDERS: (facts.ip_orders, limits.ip_orders),
        Rule.AMOUNT: (facts.total, limits.amounts.get(facts.currency, facts.total)),
        Rule.PIECES: (facts.pieces, limits.pieces),
        Rule.SKUS: (facts.skus, limits.skus),
    }
    return tuple(
        Sign(rule=rule, found=value, limit=limit)
        for rule, (value, limit) in values.items()
        if value > limit
    )


def score(broken: Sequence[Sign]) -> int:
    """Return the sum of the points of broken rules."""
    return sum(POINTS[sign.rule] for sign in broken)


def customer_of(email: str) -> str:
    """Return the customer to whom this email address belongs, regardless of case."""
    return email.lower()


def network_of(ip: str | None) -> str | None:
    """Return the network to which this IP address belongs.

    For IPv6 this is the /64 network, for IPv4 the address itself. Returns None without a valid
    address.
    """
    try:
        address = ip_address(ip or "")
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), _IPV6_PREFIX), strict=False))
