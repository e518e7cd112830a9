"""Clients reject a server whose certificate they cannot verify."""

import re
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from kombu.connection import Connection

from common.kombu_topology import EVENTS
from console.certificates.certificate_authority import Authority
from eventbus import tls
from eventbus.database import db
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.base import SettingsError, load
from eventbus.settings.broker import BrokerSettings, broker_url
from eventbus.settings.database import DatabaseSettings
from eventbus.settings.service import ServiceSettings
from testkit.network.impostor import Impostor
from testkit.processes.orderctl import empty_environment_file, orderctl
from testkit.processes.publishers import publish_and_settle
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

SECRET = "s3cr3t-hunter2"


def of_another_authority(authority: Authority, tmp_path: Path) -> Path:
    other = Authority(tmp_path / "other")
    list(other.init())
    return other.server_file("rabbitmq")


def expired(authority: Authority, _tmp_path: Path) -> Path:
    authority.issue("rabbitmq", lifetime=timedelta(minutes=-1))
    return authority.server_file("rabbitmq")


def of_another_host(authority: Authority, tmp_path: Path) -> Path:
    # A certificate of the same authority, for other names.
    elsewhere = Authority(tmp_path / "tls")
    elsewhere._names = ("elsewhere.example", "192.0.2.1")
    elsewhere.issue("rabbitmq")
    return authority.server_file("rabbitmq")


def valid(authority: Authority, _tmp_path: Path) -> Path:
    return authority.server_file("rabbitmq")


INVALID = {
    of_another_authority: "certificate verify failed",
    expired: "certificate has expired|certificate verify failed",
    of_another_host: "(IP address|Hostname|host name).*127.0.0.1|does not match",
}


Certificate = Callable[[Authority, Path], Path]


@pytest.fixture
def impostor(
    request: pytest.FixtureRequest, authority: Authority, tmp_path: Path
) -> Iterator[Impostor]:
    """A server with the certificate that the test is parametrized with."""
    with Impostor.running(request.param(authority, tmp_path)) as running:
        yield running


def as_publisher(port: int, authority: Authority) -> str:
    settings = BrokerSettings(
        broker_port=port,
        broker_user="order",
        broker_password=SECRET,
        broker_ca_file=authority.certificate_file,
    )
    publisher = ConfirmingPublisher(
        broker_url(settings),
        tls=tls.broker_options(settings),
        service="order",
        user="order",
        exchange=EVENTS.name,
        heartbeat=30,
    )
    report = publish_and_settle(publisher, [Outgoing(uuid4(), "order.created", "{}", uuid4())])
    publisher.close()
    return report.error or ""


def as_database_client(port: int, authority: Authority) -> str:
    settings = DatabaseSettings(
        database_port=port,
        database_name="orders",
        database_user="order",
        database_password=SECRET,
        database_ca_file=authority.certificate_file,
    )
    with pytest.raises(Exception) as error:  # noqa: PT011, the test checks the text
        db.engine(settings).connect()
    return str(getattr(error.value, "orig", error.value)).strip()


def as_orderctl(*arguments: str) -> Callable[[int, Authority], str]:
    def run(port: int, authority: Authority) -> str:
        environment = {
            "ORDERS_ENV_FILE": str(empty_environment_file(authority.certificate_file.parent)),
            "SECRETS_DIR": str(authority.certificate_file.parent),
            "BROKER_ADMIN_URL": f"https://127.0.0.1:{port}",
            "BROKER_PORT": str(port),
            "BROKER_ADMIN_USER": "deployer",
            "BROKER_ADMIN_PASSWORD": SECRET,
            "BROKER_CA_FILE": str(authority.certificate_file),
            "DATABASE_PORT": str(port),
            "DATABASE_ADMIN_PASSWORD": SECRET,
            "DATABASE_CA_FILE": str(authority.certificate_file),
        }
        for service in ("order", "inventory", "notification", "console"):
            (authority.certificate_file.parent / f"{service}.database").write_text(SECRET)
        result = orderctl(environment, *arguments)
        assert result.exit_code == 1, result.output
        # The audit log is in a database of the same server.
        unrecorded = "not in the audit log: "
        lines = result.stderr.strip().splitlines()
        return "\n".join(line for line in lines if not line.startswith(unrecorded))

    run.__name__ = "orderctl " + " ".join(arguments)
    return run


CLIENTS = [
    as_publisher,
    as_database_client,
    as_orderctl("topology", "plan"),
    as_orderctl("parked", "list"),
    as_orderctl("database", "apply"),
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
@pytest.mark.parametrize(
    ("impostor", "reason"),
    INVALID.items(),
    indirect=["impostor"],
    ids=lambda w: getattr(w, "__name__", ""),
)
def test_a_client_rejects_a_server_that_it_cannot_verify(
    impostor: Impostor, authority: Authority, reason: str, client: Callable[[int, Authority], str]
) -> None:
    # When the client connects
    error = client(impostor.port, authority)

    # Then it reports the reason in one line, and has sent nothing
    assert re.search(reason, error), error
    assert "\n" not in error
    assert SECRET not in error
    assert impostor.received == []


@pytest.mark.parametrize("impostor", [valid], indirect=True, ids=["valid"])
@pytest.mark.parametrize("client", CLIENTS[:2], ids=lambda client: client.__name__)
def test_a_client_sends_data_if_the_certificate_is_valid(
    impostor: Impostor, authority: Authority, client: Callable[[int, Authority], str]
) -> None:
    client(impostor.port, authority)

    assert impostor.received != []


def test_the_expected_host_name_of_the_broker_can_be_set(
    servers: Infrastructure, vhost: Vhost
) -> None:
    def connect(hostname: str | None) -> None:
        settings = BrokerSettings(
            broker_port=vhost.amqp_port,
            broker_user=vhost.admin_user,
            broker_password=vhost.admin_password,
            broker_ca_file=vhost.ca_file,
            broker_server_hostname=hostname,
        )
        options = tls.broker_options(settings)
        with Connection(vhost.amqp_url, ssl=options) as connection:
            connection.connect()

    # The certificate has both names, and no third one.
    connect("localhost")
    connect("127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"elsewhere\.example"):
        connect("elsewhere.example")


@pytest.mark.parametrize("name", ["BROKER_CA_FILE", "DATABASE_CA_FILE"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), ("", "no certificate"), ("no certificate", "no certificate")],
)
def test_an_invalid_ca_file_is_reported_at_startup(
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | None,
    reason: str,
) -> None:
    # Given an invalid file
    required = {
        "BROKER_USER": "order",
        "BROKER_PASSWORD": SECRET,
        "BROKER_CA_FILE": str(authority.certificate_file),
        "DATABASE_NAME": "orders",
        "DATABASE_USER": "order",
        "DATABASE_PASSWORD": SECRET,
        "DATABASE_CA_FILE": str(authority.certificate_file),
    }
    invalid = tmp_path / "invalid.crt"
    if content is not None:
        invalid.write_text(content)
    for variable, value in (required | {name: str(invalid)}).items():
        monkeypatch.setenv(variable, value)

    # Then the error names the setting and the reason
    with pytest.raises(SettingsError, match=rf"^setting {name}: .*{reason}") as error:
        load(ServiceSettings)
    assert "\n" not in str(error.value)
