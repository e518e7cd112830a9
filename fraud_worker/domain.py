"""Which orders look like fraud: rules on plain values, each with its points.

A rule looks at the order and at how many came before it, by the orders' own times. So an order is
judged the same whenever it is heard of: now, late, or told again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from ipaddress import IPv4Address, ip_address, ip_network


class Rule(StrEnum):
    """What may look like fraud in an order."""

    #: Many orders from one e-mail address in a short time.
    EMAIL_ORDERS = "email_orders"
    #: Many from one IP address.
    IP_ORDERS = "ip_orders"
    #: A high total.
    AMOUNT = "amount"
    #: Many pieces.
    PIECES = "pieces"
    #: Many different SKUs.
    SKUS = "skus"


#: What each rule adds to the score of an order that breaks it. By itself a high total is enough,
#: and so is a customer who orders all the time. The others need a second sign: an office shares an
#: address, and a café buys much of many things.
POINTS = {
    Rule.EMAIL_ORDERS: 60,
    Rule.IP_ORDERS: 40,
    Rule.AMOUNT: 60,
    Rule.PIECES: 40,
    Rule.SKUS: 30,
}

#: Bits of an IPv6 address that one household or office gets; the others it chooses itself.
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is still usual; `amounts` by currency, in its minor units."""

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
    """What the rules look at; of orders in the window, this one among them."""

    currency: str
    total: int
    pieces: int
    skus: int
    email_orders: int
    ip_orders: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A rule that an order breaks: what was found, and the limit that it is above."""

    rule: Rule
    found: int
    limit: int


def signs(facts: Facts, limits: Limits) -> tuple[Sign, ...]:
    """Return every rule that the order breaks; a currency without a limit breaks none."""
    found = {
        Rule.EMAIL_ORDERS: (facts.email_orders, limits.email_orders),
        Rule.IP_ORDERS: (facts.ip_orders, limits.ip_orders),
        Rule.AMOUNT: (facts.total, limits.amounts.get(facts.currency, facts.total)),
        Rule.PIECES: (facts.pieces, limits.pieces),
        Rule.SKUS: (facts.skus, limits.skus),
    }
    return tuple(
        Sign(rule=rule, found=value, limit=limit)
        for rule, (value, limit) in found.items()
        if value > limit
    )


def score(broken: Sequence[Sign]) -> int:
    """Return the points of the rules that an order breaks."""
    return sum(POINTS[sign.rule] for sign in broken)


def customer_of(email: str) -> str:
    """Return whom orders with this e-mail address are counted for: upper case makes no other."""
    return email.lower()


def network_of(ip: str | None) -> str | None:
    """Return what orders from this IP address are counted for: of IPv6 the network of its client.

    None for none, and for what is no address.
    """
    try:
        address = ip_address(ip or "")
    except ValueError:
        return None
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((int(address), _IPV6_PREFIX), strict=False))
