"""The fraud check's settings: the limits above which an order is unusual.

The defaults are estimates. Set each limit to the value that one in a hundred of a month's orders
exceeds.
"""

from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field, StringConstraints
from pydantic_settings import NoDecode

from eventbus.settings.base import Settings
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.outbox import OutboxSettings
from eventbus.settings.service import ServiceSettings
from fraud_worker.domain import Limits

Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
Amount = Annotated[int, Field(ge=0)]


def _amounts(value: object) -> object:
    if not isinstance(value, str):
        return value
    pairs = [part.strip().split(":") for part in value.split(",")]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError("is not a comma-separated list of CURRENCY:AMOUNT")
    return dict(pairs)


class LimitSettings(Settings):
    """The limits. They are not read from a file, which may change after the worker's start."""

    #: Seconds before an order in which orders of the same customer or address count. An hour is
    #: long enough to detect tests of one card after another, and short enough for a customer who
    #: orders forgotten items separately.
    fraud_window: float = Field(3_600.0, gt=0, le=7 * 86_400)
    #: Maximum usual number of orders in the window from one email address, which is more than a
    #: customer needs for forgotten items.
    fraud_email_orders: int = Field(5, ge=1, le=1_000)
    #: Maximum usual number of orders in the window from one IP address, which is the number from a
    #: small office at noon. An IPv6 address counts for its /64 network.
    fraud_ip_orders: int = Field(20, ge=1, le=1_000)
    #: Highest usual totals, in minor units of each currency: about a thousand euros, which few
    #: orders reach. The total of an order in another currency is ignored.
    fraud_amounts: Annotated[dict[Currency, Amount], NoDecode, BeforeValidator(_amounts)] = Field(
        "AUD:170000,CAD:150000,CHF:100000,CZK:2500000,DKK:750000,EUR:100000,GBP:85000,"
        "JPY:160000,NOK:1200000,PLN:430000,SEK:1100000,USD:110000",
        validate_default=True,
    )
    #: Highest usual number of units in one order, which is more than a household needs.
    fraud_pieces: int = Field(50, ge=1, le=1_000_000)
    #: Highest usual number of different SKUs in one order. An order that tests a stolen card
    #: contains arbitrary SKUs.
    fraud_skus: int = Field(20, ge=1, le=1_000)
    #: The score at which an order is suspected, which one strong sign or two weak signs reach (see
    #: `domain.POINTS`).
    fraud_score: int = Field(60, ge=1, le=1_000)

    @property
    def limits(self) -> Limits:
        """The limits in the form that the rules use."""
        return Limits(
            window=timedelta(seconds=self.fraud_window),
            email_orders=self.fraud_email_orders,
            ip_orders=self.fraud_ip_orders,
            amounts=self.fraud_amounts,
            pieces=self.fraud_pieces,
            skus=self.fraud_skus,
            score=self.fraud_score,
        )


class WorkerSettings(LimitSettings, ServiceSettings):
    """The settings of the worker, which judges orders."""


class RelaySettings(DedupWindow, OutboxSettings):
    """The settings of the relay, which publishes the outbox and deletes old rows."""

    #: Days for which judgements are kept. The value is the same as for the inbox, and longer than
    #: any window. A row contains an email address and an IP address.
    fraud_retention_days: int = Field(30, ge=8, le=3650)
