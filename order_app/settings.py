"""The order service's settings."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_settings import NoDecode

from eventbus.events import versions
from eventbus.settings.base import Settings
from eventbus.settings.database import DatabaseSettings
from order_app.declaration import ORDER

Currency = Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]


def _split(value: object) -> object:
    return value.split(",") if isinstance(value, str) else value


def _published_version(label: str) -> str:
    labels = [versions.label(event_type) for event_type in CREATED]
    if label not in labels:
        raise ValueError(f"{label!r} is not a published version: {', '.join(labels)}")
    return label


#: The versions of `order.created` that this service can publish, oldest first.
CREATED = tuple(t for t in ORDER.published_types if t in versions.versions("order.created"))


class PublishedVersions(Settings):
    """The versions in which the order service publishes an event with several versions."""

    #: The versions of `order.created` in which the event of each order is published, with the same
    #: id. The default is only the first, until every consumer accepts the second.
    order_created_versions: Annotated[
        tuple[Annotated[str, AfterValidator(_published_version)], ...],
        NoDecode,
        BeforeValidator(_split),
        Field(min_length=1),
    ] = ("v1",)

    @property
    def order_created_types(self) -> tuple[str, ...]:
        """The event types of these versions, oldest first."""
        return tuple(t for t in CREATED if versions.label(t) in self.order_created_versions)


class ApiSettings(PublishedVersions, DatabaseSettings):
    """The settings of the API, which does not connect to the broker."""

    #: Seconds for which an order may be PENDING before it is cancelled. The time is longer than all
    #: retry tiers together, so that a service that was down for minutes can still reply in time.
    order_deadline: float = Field(900.0, gt=0, le=30 * 86_400)
    #: ISO 4217 codes of the currencies in which customers may order, separated by commas.
    order_currencies: Annotated[
        tuple[Currency, ...], NoDecode, BeforeValidator(_split), Field(min_length=1)
    ] = ("AUD", "CAD", "CHF", "CZK", "DKK", "EUR", "GBP", "JPY", "NOK", "PLN", "SEK", "USD")
    #: Maximum number of database connections of one API process. New orders have a separate pool of
    #: the same size, of which one connection is used at a time. While all connections are in use,
    #: further requests wait.
    api_pool_size: int = Field(4, ge=1, le=100)
    #: Seconds for which a process caches the API keys, so that requests need no query to check
    #: their keys. A revoked key may be accepted for this time.
    api_key_lifetime: float = Field(5.0, ge=0, le=300)
    #: Maximum number of requests of one key per minute and process. The default is 100 per second,
    #: each of which takes 1 to 2 ms of CPU time, so a client in an endless loop leaves most of the
    #: process to other clients. A shop that needs more can raise the limit for all keys.
    api_rate_limit: int = Field(6_000, ge=1, le=10_000_000)
    #: Maximum number of writing requests in progress in one process, which is the work of a fifth
    #: of a second. Additional requests are rejected with 503, so that the waiting requests are
    #: handled in time.
    api_queue_limit: int = Field(100, ge=1, le=10_000)
    #: Maximum number of additional, reading requests in progress in one process. A page of 100
    #: orders costs as much as 15 new orders, and 20 pages take a fifth of a second.
    api_read_limit: int = Field(20, ge=1, le=10_000)
    #: Seconds after which a connection without a complete request head is closed. The time is
    #: longer than the idle timeout of a proxy in front of the API (usually 60), so the proxy closes
    #: the connection first, and no request arrives on a connection that is being closed.
    api_idle_timeout: int = Field(75, ge=1, le=3_600)
    #: Number of proxies between the clients and the API, which is the number of addresses that are
    #: trusted, from the right of `X-Forwarded-For`. The default is 0, because clients can send any
    #: value in that header, and the number of proxies depends on the deployment.
    api_trusted_proxies: int = Field(0, ge=0, le=10)
    #: Maximum number of traces recorded per second, process and route; placing an order is one of
    #: the routes. A trace takes a tenth of the CPU time of its order, and above this rate,
    #: additional traces provide little information. Failures, and effects on an order more than 2
    #: seconds after their cause, are always recorded.
    traces_per_second: int = Field(20, ge=0, le=10_000)
    #: The directory in which the API's processes share their metrics, which must be empty at start.
    #: It is required for more than one process.
    prometheus_multiproc_dir: Path | None = None
