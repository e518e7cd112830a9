"""When the certificates end that a process depends on, for its metrics.

It asks the servers and not the disk: what counts is what clients get, and a renewed file that no
server has read yet renews nothing.
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

#: Seconds for a server's answer. Prometheus itself waits for five.
TIMEOUT = 2.0

#: Seconds for which an answer is kept: certificates end slowly, and are renewed by people.
KEPT = 3600.0

#: Seconds for which a server that did not answer is left alone, so that not every scrape waits.
FAILURE_KEPT = 60.0

#: OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python does not name.
_NO_CHECK_TIME = 0x200000

#: PostgreSQL talks TLS only to who has asked for it by these eight bytes.
_ASK_FOR_TLS = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"

#: Returns when a certificate ends (Unix time); raises `OSError` when nobody can tell.
Source = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that shows its certificate; `hostname` must be in it."""

    host: str
    port: int
    hostname: str
    ca_file: Path
    #: What it wants to hear before it talks TLS, and then answers by "S".
    request: bytes = b""

    def not_after(self) -> float:
        """Return when the certificate that it shows now ends, also if that is past.

        Raises `OSError` when it does not answer in time, or cannot show that it is the right one.
        """
        context = tls.http_context(self.ca_file)
        # One that has ended must be told of. All else is checked, and nothing is sent.
        context.verify_flags |= _NO_CHECK_TIME
        with socket.create_connection((self.host, self.port), timeout=TIMEOUT) as plain:
            if self.request:
                plain.sendall(self.request)
                if plain.recv(1) != b"S":
                    raise ConnectionError("no TLS")
            with context.wrap_socket(plain, server_hostname=self.hostname) as secure:
                return _ends(secure.getpeercert() or {})


def first_not_after(servers: Sequence[Server]) -> float:
    """Return which of the servers' certificates ends first, of those that answer.

    Raises the `OSError` of one of them when none does.
    """
    ends, errors = [], []
    for server in servers:
        try:
            ends.append(server.not_after())
        except OSError as error:
            errors.append(error)
    if not ends:
        raise errors[-1]
    return min(ends)


def authority_not_after(*ca_files: Path) -> float:
    """Return when the first of these files' certificates ends; raises `OSError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for file in ca_files:
        context.load_verify_locations(file)
    ends = [_ends(certificate) for certificate in context.get_ca_certs()]
    if not ends:
        raise OSError("no file holds an authority's certificate")
    return min(ends)


def sources(settings: Settings) -> dict[str, Source]:
    """Return what a process with these settings depends on, by the label `server`."""
    found: dict[str, Source] = {}
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
        found["broker"] = partial(first_not_after, nodes)
        if own := settings.broker_client_certificate_file:
            found[f"client {settings.broker_user}"] = partial(client_certificate.not_after, own)
        ca_files.append(settings.broker_ca_file)
    if isinstance(settings, DatabaseSettings):
        servers = [
            Server(
                host=host,
                port=port,
                hostname=host,
                ca_file=settings.database_ca_file,
                request=_ASK_FOR_TLS,
            )
            for host, port in addresses(settings.database_host, settings.database_port)
        ]
        found["database"] = partial(first_not_after, servers)
        ca_files.append(settings.database_ca_file)
    return found | {"authority": partial(authority_not_after, *ca_files)}


class Certificates(Collector):
    """Tells when certificates end; of one that nobody shows, nothing."""

    def __init__(
        self, sources: Mapping[str, Source], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._answers = {name: _Answer(source, clock) for name, source in sources.items()}

    def describe(self) -> Iterator[Metric]:
        """Return nothing, so that to register it asks no server."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Return the end of each certificate as Unix time."""
        ends = GaugeMetricFamily(
            "orders_certificate_not_after_seconds",
            "When a certificate ends, as Unix time.",
            labels=("server",),
        )
        for name, answer in self._answers.items():
            if (not_after := answer.value()) is not None:
                ends.add_metric((name,), not_after)
        yield ends


@dataclass
class _Answer:
    """A source's last answer, for as long as it is kept."""

    source: Source
    clock: Callable[[], float]
    _value: float | None = field(default=None, init=False)
    _until: float | None = field(default=None, init=False)

    def value(self) -> float | None:
        now = self.clock()
        if self._until is None or now >= self._until:
            try:
                self._value = self.source()
            except OSError:
                # `orders_database_up` and `orders_broker_connected` tell that it is away.
                self._value = None
            self._until = now + (FAILURE_KEPT if self._value is None else KEPT)
        return self._value


def _ends(certificate: Mapping[str, object]) -> float:
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))
