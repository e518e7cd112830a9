"""Publishers, proxies and transports for the tests of relays and of the mailer."""

from collections.abc import Iterator

import pytest

from eventbus.outbox import lanes, outcomes
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox
from testkit.mail.mailing import settings
from testkit.network.proxy import Proxy
from testkit.processes.publishers import PublisherOf, publishers
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


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
