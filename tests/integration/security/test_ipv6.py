"""Servers that are reachable only by an IPv6 address, and processes that listen on one."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from kombu.connection import Connection
from prometheus_client import start_http_server
from sqlalchemy import text

from console.actions import health
from console.settings import BrokerAdminSettings
from deploy.local import REPOSITORY
from eventbus import tls
from eventbus.database import db
from eventbus.settings.broker import BrokerSettings, broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry import certificate_expiry
from testkit.eventually import eventually
from testkit.network.proxy import Proxy
from testkit.servers.databases import TestDatabase
from testkit.servers.declaration import TIERS
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.servers.workers import own_ports

Forward = Callable[[int], int]


@pytest.fixture
def forward() -> Iterator[Forward]:
    """Forward a port of ::1 to a port of 127.0.0.1; return the former."""
    proxies: list[Proxy] = []

    def forward_to(port: int) -> int:
        proxies.append(Proxy(port, "::1"))
        return proxies[-1].port

    yield forward_to
    for proxy in proxies:
        proxy.stop()


def broker_settings(servers: Infrastructure, vhost: Vhost, host: str) -> BrokerSettings:
    return BrokerSettings(
        broker_host=host,
        broker_vhost=vhost.name,
        broker_user="order",
        broker_password=(servers.secrets_dir / "order.broker").read_text().strip(),
        broker_ca_file=vhost.ca_file,
    )


def test_the_broker_is_reachable_over_ipv6(
    servers: Infrastructure, broker: Vhost, forward: Forward
) -> None:
    settings = broker_settings(servers, broker, f"[::1]:{forward(broker.amqp_port)}")

    with Connection(broker_url(settings), ssl=tls.broker_options(settings)) as connection:
        connection.ensure_connection(max_retries=1)
        peer = connection.connection.transport.sock.getpeername()[0]

    assert peer == "::1"


@pytest.mark.parametrize("others", ["", ",[::1]:1"])
def test_the_database_is_reachable_over_ipv6(
    database_of: Callable[[str], TestDatabase], forward: Forward, others: str
) -> None:
    # Given one address, or several
    database = database_of("order")
    host = f"[::1]:{forward(int(database.settings['database_port']))}{others}"
    settings = database.service_settings.model_copy(update={"database_host": host})

    # When a client connects
    engine = db.engine(settings)
    with engine.connect() as connection:
        value = connection.scalar(text("SELECT 1"))
    engine.dispose()

    # Then it can query
    assert value == 1


def test_server_certificates_are_read_over_ipv6(
    servers: Infrastructure,
    broker: Vhost,
    database_of: Callable[[str], TestDatabase],
    forward: Forward,
) -> None:
    database = database_of("order").settings
    settings = ServiceSettings(
        **broker_settings(servers, broker, f"[::1]:{forward(broker.amqp_port)}").model_dump(
            exclude_unset=True
        ),
        **database | {"database_host": f"[::1]:{forward(database['database_port'])}"},
    )

    expiry_times = {name: read() for name, read in certificate_expiry.sources(settings).items()}

    assert expiry_times.keys() == {"broker", "database", "authority"}


def test_a_health_check_reaches_both_broker_ports_over_ipv6(
    broker: Vhost, forward: Forward
) -> None:
    # Given the IPv6 addresses of both ports
    port = httpx.URL(broker.management_url).port
    assert port is not None
    over_ipv6 = replace(
        broker,
        management_url=f"https://[::1]:{forward(port)}",
        amqp_port=forward(broker.amqp_port),
    )

    # When the broker is checked over both
    checked = health.check(BrokerAdminSettings(**over_ipv6.administrator, retry_tiers=TIERS))
    consumers = health.queue_counts.consumers(
        BrokerAdminSettings(**over_ipv6.administrator), ["order.queue"]
    )

    # Then both replied
    assert {finding.kind for finding in checked.findings} <= {health.Kind.NO_CONSUMER}
    assert consumers == {"order.queue": 0}


def test_the_api_listens_on_an_ipv6_address(
    database_of: Callable[[str], TestDatabase], tmp_path: Path
) -> None:
    # Given a server that is bound to ::1
    port = own_ports().api_port
    database = {k.upper(): str(v) for k, v in database_of("order").settings.items()}
    command = ["-m", "order_app.server", "--bind", f"[::1]:{port}", "order_app.app"]
    environment = {"PATH": "/usr/bin:/bin", "PROMETHEUS_MULTIPROC_DIR": str(tmp_path), **database}

    # When it is running
    with subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, env=environment) as api:
        try:
            answer = eventually(lambda: _status(f"http://[::1]:{port}/healthz"))
        finally:
            api.terminate()

    # Then it replies
    assert answer == 200


def test_metrics_are_served_on_an_ipv6_address() -> None:
    server, thread = start_http_server(0, addr="::1")
    try:
        assert _status(f"http://[::1]:{server.server_port}/metrics") == 200
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except OSError as error:
        raise AssertionError(str(error)) from None
