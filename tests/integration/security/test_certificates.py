"""A process exports the expiry of the certificates that the servers present."""

import json
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import create_engine, pool, text

from console.certificates.certificate_authority import Authority
from console.orderctl import main
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry.certificate_expiry import (
    FAILURE_TTL,
    TIMEOUT,
    TTL,
    Certificates,
    Server,
    sources,
)
from testkit.eventually import becomes, eventually
from testkit.network.impostor import Impostor
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure

SECRET = "s3cr3t-hunter2"


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that does not advance."""
    return Clock()


@pytest.fixture
def impostor(authority: Authority) -> Iterator[Impostor]:
    """A server whose certificate expired an hour ago."""
    authority.issue("rabbitmq", lifetime=timedelta(hours=-1))
    with Impostor.running(authority.server_file("rabbitmq")) as running:
        yield running


def settings_of(servers: Infrastructure) -> ServiceSettings:
    return ServiceSettings(
        broker_port=servers.amqp_port,
        broker_user="order",
        broker_password=SECRET,
        broker_ca_file=servers.ca_file,
        database_port=servers.postgres_port,
        database_name="orders",
        database_user="order",
        database_password=SECRET,
        database_ca_file=servers.ca_file,
    )


def orderctl_tls(servers: Infrastructure, *arguments: str) -> Any:
    environment = {"ORDERS_ENV_FILE": str(servers.operator_environment)}
    done = CliRunner().invoke(main, ["tls", *arguments], env=environment)
    assert done.exit_code == 0, done.output
    return done


def on_disk(servers: Infrastructure) -> dict[str, float]:
    """Return the expiry times that `orderctl tls show` reports, by the labels of the metric."""
    names = {"ca": "authority", "rabbitmq": "broker", "postgres": "database"}
    certificates = json.loads(orderctl_tls(servers, "show", "--json").stdout)
    ends = {Path(c["file"]).stem: datetime.fromisoformat(c["not_after"]) for c in certificates}
    return {server: ends[stem].timestamp() for stem, server in names.items()}


def shown(certificates: Certificates) -> dict[str, float]:
    """Return the values of the metric by server."""
    (metric,) = certificates.collect()
    return {sample.labels["server"]: sample.value for sample in metric.samples}


def test_the_metric_shows_the_certificates_that_servers_use(
    servers: Infrastructure, databases: Databases, clock: Clock
) -> None:
    # Given a process that has read the certificates
    certificates = Certificates(sources(settings_of(servers)), clock)
    before = on_disk(servers)
    assert shown(certificates) == before

    # When they are renewed and reloaded, within another second
    def renewed() -> None:
        orderctl_tls(servers, "renew")
        now = on_disk(servers)
        assert now["broker"] != before["broker"]
        assert now["database"] != before["database"]

    eventually(renewed)
    engine = create_engine(databases.server, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_reload_conf()"))
    fresh = sources(settings_of(servers))
    becomes(lambda: shown(Certificates(fresh)), on_disk(servers))

    # Then the process shows the old ones for an hour, and then the new ones
    clock.now = TTL - 1
    assert shown(certificates) == before
    clock.now = TTL
    assert shown(certificates) == on_disk(servers)


def test_an_expired_certificate_is_shown(
    impostor: Impostor, authority: Authority, clock: Clock
) -> None:
    certificates = Certificates({"broker": server(impostor.port, authority).not_after}, clock)

    (ended,) = [c for c in authority.show() if c.file == authority.server_file("rabbitmq")]
    assert ended.left < timedelta(0)
    assert shown(certificates) == {"broker": ended.not_after.timestamp()}
    # And the client has sent nothing
    assert impostor.received == []


@pytest.mark.parametrize("wrong", ["authority", "host name"])
def test_an_untrusted_certificate_is_not_shown(
    impostor: Impostor, authority: Authority, tmp_path: Path, clock: Clock, wrong: str
) -> None:
    # Given another authority or another host name
    other = Authority(tmp_path / "other")
    list(other.init())
    trusted = other if wrong == "authority" else authority
    name = "elsewhere.example" if wrong == "host name" else "127.0.0.1"

    # When the certificate is read
    source = server(impostor.port, trusted, hostname=name)

    # Then it is not shown
    assert shown(Certificates({"broker": source.not_after}, clock)) == {}


def test_a_process_shows_its_own_certificate(
    servers: Infrastructure, authority: Authority, clock: Clock
) -> None:
    # Given a client certificate
    own = authority.issue_client("order")
    settings = settings_of(servers).model_copy(update={"broker_client_certificate_file": own.file})

    # Then its expiry is shown
    values = shown(Certificates(sources(settings), clock))
    assert values["client order"] == own.not_after.timestamp()

    # And while its file is invalid, the others are shown
    own.file.write_text("broken")
    clock.now = TTL
    assert shown(Certificates(sources(settings), clock)).keys() == on_disk(servers).keys()


def test_an_unreachable_server_is_contacted_again_after_a_minute(
    authority: Authority, clock: Clock
) -> None:
    # Given a port without a server
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    contacts: list[float] = []

    def contact() -> float:
        contacts.append(clock.now)
        return server(port, authority).not_after()

    certificates = Certificates({"broker": contact}, clock)

    # When the metric is scraped for more than a minute
    for clock.now in (0.0, 5.0, FAILURE_TTL - 1, FAILURE_TTL, FAILURE_TTL + 1):
        assert shown(certificates) == {}

    # Then the server was contacted twice
    assert contacts == [0.0, FAILURE_TTL]


def test_reading_from_a_silent_server_times_out(authority: Authority, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent_server = server(silent.getsockname()[1], authority)

        with pytest.raises(TimeoutError):
            silent_server.not_after()


def test_the_api_shows_the_database_certificate(
    servers: Infrastructure, order_api: FlaskClient
) -> None:
    page = order_api.get("/metrics").text

    samples = dict(line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    ends = {
        server: float(samples[f'orders_certificate_not_after_seconds{{server="{server}"}}'])
        for server in ("database", "authority")
    }
    assert ends == {server: on_disk(servers)[server] for server in ends}


def server(port: int, authority: Authority, *, hostname: str = "127.0.0.1") -> Server:
    return Server(
        host="127.0.0.1", port=port, hostname=hostname, ca_file=authority.certificate_file
    )


def test_servers_that_do_not_respond_delay_one_scrape_only_once(clock: Clock) -> None:
    # Given two servers that do not respond within their time
    def hang() -> float:
        clock.now += TIMEOUT
        raise TimeoutError

    certificates = Certificates({"broker": hang, "database": hang, "authority": lambda: 1.0}, clock)

    # When the metrics are scraped
    durations = []
    for _ in range(3):
        began = clock.now
        page = shown(certificates)
        durations.append(clock.now - began)

    # Then each scrape waits for one of them, and the others follow
    assert durations == [TIMEOUT, TIMEOUT, 0]
    assert page == {"authority": 1.0}
