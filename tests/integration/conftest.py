"""Publishers, proxies and transports of relays and the mailer, and the web console."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from console.settings import ConsoleSettings
from console.web.app import create_app
from eventbus.outbox import lanes, outcomes
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import settings
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf, publishers
from testkit.processes.web_console import settings_of_console
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.patience import wait_for_connections
from testkit.servers.vhosts import Vhost


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test wait long for new connections."""
    wait_for_connections(monkeypatch)


@pytest.fixture
def publisher_of(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Publishers with the user and permissions of a service."""
    with publishers(servers, broker) as make:
        yield make


@pytest.fixture
def proxy(broker: Vhost) -> Iterator[Proxy]:
    """A proxy in front of the broker."""
    proxy = Proxy(broker.amqp_port)
    yield proxy
    proxy.stop()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the delays between attempts of a relay."""
    monkeypatch.setattr(lanes, "FIRST_DELAY", 0.05)
    monkeypatch.setattr(lanes, "LONGEST_DELAY", 0.2)
    monkeypatch.setattr(outcomes, "BROKER_DELAY", 0.05)


@pytest.fixture
def transport(mailbox: Mailbox) -> Iterator[Transport]:
    """A mailer's connection to the mail server of the test."""
    transport = Transport(settings(mailbox.port))
    yield transport
    transport.close()


@pytest.fixture
def console_settings(
    servers: Infrastructure, vhost: Vhost, operator_env: dict[str, str]
) -> dict[str, Any]:
    """The settings of the web console for the test's vhost and databases."""
    return settings_of_console(servers, vhost, operator_env["DATABASE_SUFFIX"])


@pytest.fixture
def console(console_settings: dict[str, Any]) -> FlaskClient:
    """A client of the web console."""
    return create_app(ConsoleSettings(**console_settings)).test_client()
