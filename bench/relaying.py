"""(a) Events a second through a relay: ours against kombu's confirms, one at a time."""

import time

from bench.plain import relay as plain
from bench.system import execute, fill_outbox
from common import tls
from common.publisher import ConfirmingPublisher
from common.relay import Relay
from common.settings import BrokerSettings, broker_url
from tests.support.stack import Stack


def ours(stack: Stack, events: int) -> float:
    """Return our relay's events a second."""
    settings = _settings(stack)
    publisher = ConfirmingPublisher(
        broker_url(settings),
        tls=tls.broker_options(settings),
        service="order",
        user=settings.broker_user,
        heartbeat=30,
    )
    relay = Relay(stack.sessions("order"), publisher)
    fill_outbox(stack, events)
    began = time.perf_counter()
    sent = 0
    while sent < events:
        sent += relay.relay_once()
    seconds = time.perf_counter() - began
    publisher.close()
    _clear(stack)
    return events / seconds


def others(stack: Stack, events: int) -> float:
    """Return the plain relay's events a second."""
    fill_outbox(stack, events)
    with stack.vhost.connect(confirm_publish=True) as connection:
        began = time.perf_counter()
        sent = plain.drain(stack.sessions("order"), connection)
        seconds = time.perf_counter() - began
    _clear(stack)
    return sent / seconds


def _clear(stack: Stack) -> None:
    execute(stack, "order", "TRUNCATE outbox")
    for queue in ("inventory.queue", "notification.queue"):
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{queue}/contents")


def _settings(stack: Stack) -> BrokerSettings:
    return BrokerSettings(
        broker_port=stack.vhost.amqp_port,
        broker_vhost=stack.vhost.name,
        broker_user="order",
        broker_password=(stack.servers.secrets_dir / "order.broker").read_text().strip(),
        broker_ca_file=stack.vhost.ca_file,
    )
