"""A certificate replaces the password of a broker user, with the same permissions."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from amqp.exceptions import AccessRefused
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from kombu.connection import Connection

from common.kombu_topology import EVENTS
from console.certificates.certificate_authority import Authority
from eventbus import tls
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.base import SettingsError, load
from eventbus.settings.broker import BrokerSettings, broker_url
from testkit.processes.publishers import publish_and_settle
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

#: With TLS 1.3 the broker rejects a client after the client's handshake. What the client sends next
#: may reach a closed socket, whose reset then overtakes the alert.
CLOSED = "Connection reset|Broken pipe|EOF|[Ss]erver unexpectedly closed"

PublisherOf = Callable[[str, Path], ConfirmingPublisher]


@pytest.fixture
def trusted(servers: Infrastructure, tmp_path: Path) -> Authority:
    """A copy of the servers' authority, for the test to issue client certificates."""
    for name in ("ca.crt", "ca.key"):
        (tmp_path / "trusted").mkdir(exist_ok=True)
        (tmp_path / "trusted" / name).write_bytes((servers.ca_file.parent / name).read_bytes())
    return Authority(tmp_path / "trusted")


@pytest.fixture
def untrusted(tmp_path: Path) -> Authority:
    """An authority that the servers do not trust."""
    authority = Authority(tmp_path / "untrusted")
    list(authority.init())
    return authority


def issued(authority: Authority, user: str, **options: Any) -> Path:
    return authority.issue_client(user, **options).file


@pytest.fixture
def settings_of(broker: Vhost) -> Callable[[str, Path], BrokerSettings]:
    """Settings of a process with a certificate but no password."""

    def make(user: str, file: Path) -> BrokerSettings:
        return BrokerSettings(
            broker_port=broker.amqp_port,
            broker_vhost=broker.name,
            broker_user=user,
            broker_client_certificate_file=file,
            broker_ca_file=broker.ca_file,
        )

    return make


@pytest.fixture
def publisher_of(settings_of: Callable[[str, Path], BrokerSettings]) -> Iterator[PublisherOf]:
    """Publishers with a certificate but no password."""
    with ExitStack() as stack:

        def make(user: str, file: Path) -> ConfirmingPublisher:
            settings = settings_of(user, file)
            publisher = ConfirmingPublisher(
                broker_url(settings),
                tls=tls.broker_options(settings),
                service=user,
                user=user,
                exchange=EVENTS.name,
                heartbeat=30,
            )
            stack.callback(publisher.close)
            return publisher

        yield make


def event(event_type: str) -> Outgoing:
    return Outgoing(uuid4(), event_type, "{}", uuid4())


def test_a_publisher_logs_in_with_its_certificate(
    broker: Vhost, trusted: Authority, publisher_of: PublisherOf
) -> None:
    # When an event is published with a certificate
    placed = event("order.created")
    report = publish_and_settle(publisher_of("order", issued(trusted, "order")), [placed])

    # Then the broker authenticates the user
    assert report.error is None
    assert report.confirmed == {placed.event_id}
    (message,) = broker.messages("inventory.queue")
    assert message.properties["user_id"] == "order"


def test_a_certificate_grants_only_its_users_permissions(
    broker: Vhost, trusted: Authority, publisher_of: PublisherOf
) -> None:
    # Given the inventory's certificate
    publisher = publisher_of("inventory", issued(trusted, "inventory"))

    # Then the inventory's events are accepted
    assert publish_and_settle(publisher, [event("stock.reserved")]).error is None
    # And those of the order service are rejected
    report = publish_and_settle(publisher, [event("order.created")])
    assert report.objected
    assert "ACCESS_REFUSED" in str(report.error)
    assert broker.messages("inventory.queue") == []


def of_another_authority(_trusted: Authority, untrusted: Authority) -> Path:
    return issued(untrusted, "order")


def expired(trusted: Authority, _untrusted: Authority) -> Path:
    return issued(trusted, "order", lifetime=timedelta(minutes=-1))


def of_a_server(trusted: Authority, _untrusted: Authority) -> Path:
    # A server's certificate is not valid for a client, even with the right name.
    trusted.issue("order")
    return trusted.server_file("order")


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (of_another_authority, "(?i)alert.*unknown.ca"),
        (expired, "(?i)alert.*certificate.expired"),
        (of_a_server, "(?i)alert"),
    ],
)
def test_an_invalid_certificate_is_rejected(
    broker: Vhost,
    trusted: Authority,
    untrusted: Authority,
    publisher_of: PublisherOf,
    certificate: Callable[[Authority, Authority], Path],
    reason: str,
) -> None:
    # When an event is published with such a certificate
    report = publish_and_settle(
        publisher_of("order", certificate(trusted, untrusted)), [event("order.created")]
    )

    # Then the connection fails with a reason
    assert report.error is not None
    assert not report.confirmed
    assert broker.messages("inventory.queue") == []
    assert re.search(f"{reason}|{CLOSED}", report.error), report.error


def test_a_user_unknown_to_the_broker_is_rejected(
    trusted: Authority, publisher_of: PublisherOf
) -> None:
    report = publish_and_settle(
        publisher_of("stranger", issued(trusted, "stranger")), [event("order.created")]
    )

    assert "ACCESS_REFUSED" in str(report.error) or "AccessRefused" in str(report.error)


def test_a_login_without_certificate_and_password_fails(
    trusted: Authority, settings_of: Callable[[str, Path], BrokerSettings]
) -> None:
    settings = settings_of("order", issued(trusted, "order"))
    options = tls.broker_options(settings)
    del options["certfile"]

    with (
        Connection(broker_url(settings), ssl=options) as connection,
        pytest.raises((AccessRefused, OSError)),
    ):
        connection.connect()


def test_a_renewed_certificate_is_used_at_the_next_connection(
    trusted: Authority, publisher_of: PublisherOf
) -> None:
    # Given an expired certificate
    publisher = publisher_of("order", expired(trusted, trusted))
    assert publish_and_settle(publisher, [event("order.created")]).error

    # When it is renewed
    list(trusted.renew())

    # Then the same publisher connects
    assert publish_and_settle(publisher, [event("order.created")]).error is None


def missing(_trusted: Authority, directory: Path) -> Path:
    return directory / "missing.pem"


def empty(_trusted: Authority, directory: Path) -> Path:
    (directory / "empty.pem").touch()
    return directory / "empty.pem"


def without_key(trusted: Authority, _directory: Path) -> Path:
    return trusted.certificate_file


def with_another_key(trusted: Authority, directory: Path) -> Path:
    key, _, _ = issued(trusted, "inventory").read_text().partition("-----BEGIN CERTIFICATE")
    _, begin, certificate = issued(trusted, "order").read_text().partition("-----BEGIN CERTIFICATE")
    (directory / "mixed.pem").write_text(key + begin + certificate)
    return directory / "mixed.pem"


def with_an_encrypted_key(trusted: Authority, directory: Path) -> Path:
    content = issued(trusted, "order").read_bytes()
    key = load_pem_private_key(content, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    _, begin, certificate = content.partition(b"-----BEGIN CERTIFICATE")
    (directory / "encrypted.pem").write_bytes(key + begin + certificate)
    return directory / "encrypted.pem"


def of_another_user(trusted: Authority, _directory: Path) -> Path:
    return issued(trusted, "inventory")


@pytest.mark.parametrize(
    ("invalid_file", "reason"),
    [
        (missing, "No such file"),
        (empty, "does not contain a key and its certificate"),
        (without_key, "does not contain a key and its certificate"),
        (with_another_key, "does not contain a key and its certificate"),
        (with_an_encrypted_key, "does not contain a key and its certificate"),
        (of_another_user, "its common name 'inventory' is not BROKER_USER"),
    ],
)
def test_an_invalid_certificate_file_is_reported_at_startup(
    servers: Infrastructure,
    trusted: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    invalid_file: Callable[[Authority, Path], Path],
    reason: str,
) -> None:
    # Given an invalid file
    file = invalid_file(trusted, tmp_path)
    monkeypatch.setenv("BROKER_USER", "order")
    monkeypatch.setenv("BROKER_CA_FILE", str(servers.ca_file))
    monkeypatch.setenv("BROKER_CLIENT_CERTIFICATE_FILE", str(file))

    # Then the error names the setting, the file and the reason
    name = "BROKER_CLIENT_CERTIFICATE_FILE"
    with pytest.raises(SettingsError, match=f"^setting {name}: .*{file}: .*{reason}") as error:
        load(BrokerSettings)
    assert "\n" not in str(error.value)
