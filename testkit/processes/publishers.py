"""Publishers as relays have them, with which a test reaches its broker."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from common.kombu_topology import EVENTS
from eventbus import tls
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.broker import BrokerSettings, broker_url
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

PublisherOf = Callable[..., ConfirmingPublisher]


@contextmanager
def publishers(servers: Infrastructure, broker: Vhost) -> Iterator[PublisherOf]:
    """Close, at the end, what was made: publishers with a service's own user and rights."""
    with ExitStack() as made:

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
            made.callback(new.close)
            return new

        yield make
