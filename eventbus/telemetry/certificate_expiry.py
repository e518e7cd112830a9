"""A metric for the expiry of the certificates used by a process.

The expiry is read from the servers rather than from disk, because clients receive the certificate
that the server has loaded; a renewed file has no effect until the server loads it.
"""

import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from eventbus import tls
from eventbus.settings import client_certificate
from eventbus.settings.addresses import addresses
from eventbus.settings.base import Settings
from eventbus.settings.broker import BrokerSettings
from eventbus.settings.database import DatabaseSettings

#: Seconds to wait for the responses of servers during one scrape. Prometheus allows five seconds
#: for a scrape, including the metrics of the database.
TIMEOUT = 2.0

#: Seconds for which an expiry is cached: certificates change rarely.
TTL = 3600.0

#: Seconds before a server that did not respond is tried again, so that not every scrape waits.
FAILURE_TTL = 60.0

#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, for which Python has no constant.
_NO_CHECK_TIME = 0x200000

#: PostgreSQL's SSLRequest, the eight bytes after which a server starts TLS.
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

#: A function that returns the expiry of a certificate (Unix time), or raises `OSError` if it is
#: unknown.
Source = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server with a TLS certificate, which must contain `hostname`."""

    host: str
    port: int
    hostname: str
    ca_file: Path
    #: The bytes that the server requires before TLS, to which it replies with "S".
    request: bytes = b""

    def not_after(self, timeout: float = TIMEOUT) -> float:
        """Return the expiry of the server's current certificate, which may be in the past.

        Raises `OSError` if the server does not respond within `timeout` seconds, or its certificate
        is invalid for another reason.
        """
        context = tls.http_context(self.ca_file)
        # The validity period is not checked, because an expired certificate must be reported.
        # Everything else is verified, and no data is sent.
        context.verify_flags |= _NO_CHECK_TIME
        with socket.create_connection((self.host, self.port), timeout=timeout) as plain:
            if self.request:
                plain.sendall(self.request)
                if plain.recv(1) != b"S":
                    raise ConnectionError("the server does not support TLS")
            with context.wrap_socket(plain, server_hostname=self.hostname) as secure:
                return _expiry(secure.getpeercert() or {})


def first_not_after(servers: Sequence[Server]) -> float:
    """Return the earliest expiry of the certificates of the servers that respond.

    Raises the `OSError` of one of the servers if no server responds.
    """
    expiries, errors = [], []
    for server in servers:
        try:
            expiries.append(server.not_after(TIMEOUT / len(servers)))
        except OSError as error:
            errors.append(error)
    if not expiries:
        raise errors[-1]
    return min(expiries)


def authority_not_after(*ca_files: Path) -> float:
    """Return the earliest expiry of the certificates in these files; raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in ca_files:
        context.load_verify_locations(file)
    expiries = [_expiry(certificate) for certificate in context.get_ca_certs()]
    if not expiries:
        raise OSError("no file contains a CA certificate")
    return min(expiries)


def sources(settings: Settings) -> dict[str, Source]:
    """Return the sources of a process's certificates by `server` label."""
    by_server: dict[str, Source] = {}
    ca_files = []
    if isinstance(settings, BrokerSettings):
        nodes = [
            Server(
                host=host,
                port=port,
                hostname=str(settings.broker_server_hostname),
                ca_file=settings.broker_ca_file,
            )
            for host, port in addresses(settings.broker_host, settings.broker_port)
        ]
        by_server["broker"] = partial(first_not_after, nodes)
        if file := settings.broker_client_certificate_file:
            by_server[f"client {settings.broker_user}"] = partial(
                client_certificate.not_after, file
            )
        ca_files.append(settings.broker_ca_file)
    if isinstance(settings, DatabaseSettings):
        servers = [
            Server(
                host=host,
                port=port,
                hostname=host,
                ca_file=settings.database_ca_file,
                request=_SSL_REQUEST,
            )
            for host, port in addresses(settings.database_host, settings.database_port)
        ]
        by_server["database"] = partial(first_not_after, servers)
        ca_files.append(settings.database_ca_file)
    return by_server | {"authority": partial(authority_not_after, *ca_files)}


class Certificates(Collector):
    """The metric of certificate expiry, without certificates whose expiry is unknown."""

    def __init__(
        self, sources: Mapping[str, Source], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._expiries = {name: _Cached(source, clock) for name, source in sources.items()}

    def describe(self) -> Iterator[Metric]:
        """Return nothing: registration must not connect to the servers."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Return the expiry of each certificate as Unix time."""
        metric = GaugeMetricFamily(
            "orders_certificate_not_after_seconds",
            "The expiry of a certificate, as Unix time.",
            labels=("server",),
        )
        deadline = self._clock() + TIMEOUT
        for name, expiry in self._expiries.items():
            # If a server does not respond, the remaining certificates are read at the next scrape.
            if self._clock() < deadline:
                expiry.refresh()
            if expiry.value is not None:
                metric.add_metric((name,), expiry.value)
        yield metric


@dataclass
class _Cached:
    """The last value of a source, cached."""

    source: Source
    clock: Callable[[], float]
    value: float | None = field(default=None, init=False)
    _until: float | None = field(default=None, init=False)

    def refresh(self) -> None:
        """Read the value again if it is too old."""
        now = self.clock()
        if self._until is None or now >= self._until:
            try:
                self.value = self.source()
            except OSError:
                # This error is not logged: `orders_database_up` and `orders_broker_connected` show
                # that a server is down.
                self.value = None
            self._until = now + (FAILURE_TTL if self.value is None else TTL)


def _expiry(certificate: Mapping[str, object]) -> float:
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
