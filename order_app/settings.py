"""The order service's settings."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_settings import NoDecode

from common.kombu_topology import ORDER
from eventbus.events import versions
from eventbus.settings.base import Settings
from eventbus.settings.database import DatabaseSettings

Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _said(label: str) -> str:
    said = {versions.label(event_type): event_type for event_type in CREATED}
    if label not in said:
        raise ValueError(f"{label!r} is no version that this service says: {', '.join(said)}")
    return label


#: The versions of `order.created` that this service may publish, oldest first.
CREATED = tuple(t for t in ORDER.published_types if t in versions.versions("order.created"))


class PublishedVersions(Settings):
    """In which versions the order service publishes a fact that has several."""

    #: Of `order.created`: each order's event goes out in each of these, with one id. The first one
    #: alone, until every consumer hears the second.
    order_created_versions: Annotated[
        tuple[Annotated[str, AfterValidator(_said)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = ("v1",)

    @property
    def order_created_types(self) -> tuple[str, ...]:
        """The event types of these versions, oldest first."""
        return tuple(t for t in CREATED if versions.label(t) in self.order_created_versions)


class ApiSettings(PublishedVersions, DatabaseSettings):
    """What the API reads; it never talks to the broker."""

    #: Seconds an order may be PENDING before it is cancelled. Longer than the retry tiers together,
    #: so that a service that was down for minutes still answers in time.
    order_deadline: float = Field(900.0, gt=0, le=30 * 86_400)
    #: ISO 4217 codes of the currencies in which customers may order, separated by commas.
    order_currencies: Annotated[
        tuple[Currency, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)
    ] = ("AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "JPY", "NOK", "PLN", "SEK", "USD")
    #: Connections of one API process, for all but the placing of orders, which has as many of its
    #: own and uses one at a time. Who needs a further one waits for it.
    api_pool_size: int = Field(4, ge=1, le=100)
    #: Seconds for which a process goes on with the API keys that it has read: so long a revoked key
    #: may still be taken. In return a request needs no query to know its key.
    api_key_lifetime: float = Field(5.0, ge=0, le=300)
    #: Requests of one key in a minute and process: 100 a second, where one alone takes 1 to 2 ms of
    #: CPU. So one client's endless loop leaves most of a process to the others. A shop that needs
    #: more gets more, for all keys.
    api_rate_limit: int = Field(6_000, ge=1, le=10_000_000)
    #: Requests that change something and may be under way in one process: a fifth of a second's
    #: work. Beyond it they are refused with 503, so that those who wait are answered in time.
    api_queue_limit: int = Field(100, ge=1, le=10_000)
    #: Requests that only read and may be under way in one process, beside those. A page of 100
    #: orders costs as much as 15 new orders, and 20 of them a fifth of a second.
    api_read_limit: int = Field(20, ge=1, le=10_000)
    #: Seconds after which a connection is closed on which no whole head of a request has come.
    #: Longer than a proxy before the API keeps its idle connections (usually 60): the proxy closes
    #: them first, and no request meets a connection that is being closed.
    api_idle_timeout: int = Field(75, ge=1, le=3_600)
    #: Proxies between the clients and the API: so many addresses from the right of
    #: `X-Forwarded-For` are believed. None, because a client can write there what it likes, and
    #: only who runs the proxies knows which of them the request has passed.
    api_trusted_proxies: int = Field(0, ge=0, le=10)
    #: Orders a second and process whose traces are recorded, and likewise of each other route. A
    #: trace costs a tenth of its order, and above this rate the traces are all alike; failures, and
    #: what happens to an order later than 2 seconds after its cause, are always recorded.
    traces_per_second: int = Field(20, ge=0, le=10_000)
    #: Where the API's processes share their counts; empty at start. Needed with several processes.
    prometheus_multiproc_dir: Path | None = None
