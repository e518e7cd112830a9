"""Publishers for tests, which work like the publishers of the relays."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from math import inf

from common.kombu_topology import EVENTS
from eventbus import tls
from eventbus.messaging.in_flight import Outgoing, Report
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.broker import BrokerSettings, broker_url
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

PublisherOf = Callable[..., ConfirmingPublisher]


@contextmanager
def publishers(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Yield a function that creates publishers with a service's user, and close them at the end."""
    with ExitStack() as contexts:

        def make(
            service: str = "order",
            *,
            port: int = broker.amqp_port,
            password: str | None = None,
            heartbeat: int = 30,
        ) -> ConfirmingPublisher:
            settings = BrokerSettings(
                broker_port=port,
                broker_vhost=broker.name,
                broker_user=service,
                broker_ca_file=broker.ca_file,
                broker_password=password
                or (servers.secrets_dir / f"{service}.broker").read_text().rstrip("\n"),
            )
            new = ConfirmingPublisher(
                broker_url(settings),
                tls=tls.broker_options(settings),
                service=service,
                user=service,
                exchange=EVENTS.name,
                heartbeat=heartbeat,
            )
            contexts.callback(new.close)
            return new

        yield make


def publish_and_settle(publisher: ConfirmingPublisher, events: Iterable[Outgoing]) -> Report:
    """Publish events and return their report, even if the broker blocks publishers for long."""
    in_flight = publisher.send(events)
    while (report := publisher.settle(in_flight)) is None:
        publisher.ready(inf)
    return report
