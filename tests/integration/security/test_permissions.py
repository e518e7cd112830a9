"""Every broker user against every operation.

The expected permissions are written by hand, from what a service publishes, consumes and owns; the
actual ones are tried on a real broker. Both must be equal.
"""

from collections.abc import Iterator
from contextlib import suppress
from uuid import UUID

import pytest
from amqp import Channel, Message
from amqp.exceptions import (
    AccessRefused,
    AMQPNotImplementedError,
    NotAllowed,
    NotFound,
    PreconditionFailed,
)
from kombu.connection import Connection

from common.kombu_topology import SERVICES, STREAM, TICKS, topology
from eventbus import tls
from eventbus.topology.objects import Topology
from testkit.servers.declaration import TIERS
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost, fresh_vhost

TOPOLOGY: Topology = topology(retry_tiers=TIERS)
EVENT_TYPES = sorted({event_type for s in SERVICES for event_type in s.published_types})
QUEUES = sorted(queue.name for queue in TOPOLOGY.queues)
EXCHANGES = sorted(exchange.name for exchange in TOPOLOGY.exchanges)
#: The exchanges of every vhost; the first one, without a name, routes to every queue.
OWN_EXCHANGES = ["", "amq.direct", "amq.fanout", "amq.headers", "amq.match", "amq.topic"]

#: The queue of a monitoring program, such as Flower.
MONITORING_QUEUE = f"celeryev.{UUID(int=7)}"

#: A verb and the name of its object.
Operation = tuple[str, str]


def everything() -> set[Operation]:
    """Return every operation that is tried."""
    others = [name for name in EXCHANGES if name != "orders.topic"]
    return {
        *(("publish event", event_type) for event_type in EVENT_TYPES),
        # These are not event types, but some begin or end like one.
        *(("publish event", f"{event_type}.v2") for event_type in EVENT_TYPES),
        *(("publish event", f"an.{event_type}") for event_type in EVENT_TYPES),
        ("publish event", "order.unheard_of"),
        *(("publish to", exchange) for exchange in (*others, *OWN_EXCHANGES)),
        *(
            (verb, queue)
            for verb in ("consume", "get", "purge", "delete queue")
            for queue in QUEUES
            if (verb, queue) not in {("get", STREAM), ("purge", STREAM)}
        ),
        *(("delete exchange", exchange) for exchange in EXCHANGES),
        *(("redeclare queue", queue) for queue in QUEUES),
        *(("bind queue", queue) for queue in QUEUES),
        *(("unbind queue", queue) for queue in QUEUES),
        *(("bind exchange", exchange) for exchange in EXCHANGES),
        ("declare queue", "stranger"),
        ("declare queue", "order.stranger"),
        ("declare queue", ""),
        ("declare queue", MONITORING_QUEUE),
        ("declare queue", f"{MONITORING_QUEUE}x"),
        ("declare queue", f"x{MONITORING_QUEUE}"),
        *(("bind monitoring queue", exchange) for exchange in (*EXCHANGES, *OWN_EXCHANGES[1:])),
        ("declare exchange", "stranger"),
        ("declare exchange", "order.stranger"),
    }


def read(queue: str) -> set[Operation]:
    """Return the operations that the right to read a queue permits."""
    return {("consume", queue), ("get", queue), ("purge", queue)}


def allowed() -> dict[str, set[Operation]]:
    """Return the operations that each user must have permission for, and no others."""
    table = {
        # Publishes ticks.
        "scheduler": {("publish to", TICKS.name)},
        # Consumes the workers' task events, and no other message.
        "monitor": {("declare queue", MONITORING_QUEUE), ("bind monitoring queue", "celeryev")},
        # Reads parked messages, and puts them back on their queue; reads the retry tiers.
        "console": {
            *(o for s in SERVICES if s.consumes for o in read(f"{s.name}.dlq")),
            *(
                o
                for s in SERVICES
                if s.consumes
                for seconds in TIERS
                for o in read(s.retry_queue(seconds))
            ),
            ("publish to", ""),
        },
        # Reads the stream, and puts past events on the queue of a subscribing service.
        "replayer": {("consume", STREAM), ("publish to", "")},
    }
    for service in SERVICES:
        publishes = {("publish event", event_type) for event_type in service.published_types}
        retries = {("publish to", f"{service.name}.retry")} if service.consumes else set()
        reports = {("publish to", "celeryev")} if service.consumes else set()
        consumes = read(f"{service.name}.queue") if service.consumes else set()
        ticks = {o for tick in service.ticks for o in read(f"{service.name}.{tick}")}
        table[service.name] = publishes | retries | reports | consumes | ticks
    # Reads the stream. Streams support neither get nor purge.
    table["analytics"].add(("consume", STREAM))
    # These read events from the stream that their queues dropped, as a marker reports.
    for name in ("notification", "fraud"):
        table[name] |= {("consume", STREAM), *read(f"{name}.overflow")}
    return table


ALLOWED = allowed()


class Trial:
    """Tries operations as one user, each on a new channel, because a rejection closes it."""

    def __init__(self, servers: Infrastructure, vhost: Vhost, user: str) -> None:
        self._user = user
        self._connection = Connection(
            transport="amqps",
            hostname="127.0.0.1",
            port=vhost.amqp_port,
            userid=user,
            password=(servers.secrets_dir / f"{user}.broker").read_text().rstrip("\n"),
            virtual_host=vhost.name,
            ssl=tls.amqp_options(vhost.ca_file, "127.0.0.1"),
        )
        self._connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)

    def close(self) -> None:
        self._connection.close()

    def may(self, operation: Operation) -> bool:
        """Return whether the broker permits an operation."""
        channel = self._connection.channel()
        try:
            self._do(channel, *operation)
        except AccessRefused:
            return False
        except (PreconditionFailed, NotFound):
            # The broker checks permissions first, so the operation was permitted.
            return True
        except AMQPNotImplementedError:
            # Permitted as well: streams do not support get, and the error closes the connection.
            self._connection.collect()
            self._connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
            return True
        channel.close()
        return True

    def publish(self, exchange: str, key: str, **properties: str) -> None:
        """Publish one message, and raise the broker's error."""
        channel = self._connection.channel()
        self._publish(channel, exchange, key, **properties)
        channel.close()

    @staticmethod
    def _publish(channel: Channel, exchange: str, key: str, **properties: str) -> None:
        channel.basic_publish_confirm(
            Message("", **properties), exchange=exchange, routing_key=key, confirm_timeout=60
        )

    def _do(self, channel: Channel, verb: str, name: str) -> None:
        match verb:
            case "publish event":
                self._publish(channel, "orders.topic", name)
            case "publish to":
                # No binding matches the key: other trials receive no message from this one.
                self._publish(channel, name, "nowhere")
            case "consume":
                channel.basic_consume(name, callback=lambda _: None)
            case "get":
                channel.basic_get(name)
            case "purge":
                channel.queue_purge(name)
            case "delete queue":
                channel.queue_delete(name)
            case "delete exchange":
                channel.exchange_delete(name)
            case "declare queue" | "redeclare queue":
                channel.queue_declare(name, durable=True, auto_delete=False)
            case "declare exchange":
                channel.exchange_declare(name, "topic", durable=True, auto_delete=False)
            case "bind queue":
                channel.queue_bind(name, "orders.topic", "#")
            case "bind monitoring queue":
                channel.queue_bind(MONITORING_QUEUE, name, "#")
            case "unbind queue":
                channel.queue_unbind(name, "orders.topic", "order.created")
            case "bind exchange":
                channel.exchange_bind(name, "orders.topic", "#")
            case _:
                raise AssertionError(verb)


@pytest.fixture
def trial(
    request: pytest.FixtureRequest, servers: Infrastructure, broker: Vhost
) -> Iterator[Trial]:
    """A trial as the user that the test is parametrized with."""
    trial = Trial(servers, broker, request.param)
    yield trial
    with suppress(OSError):
        trial.close()


def test_the_table_lists_every_user() -> None:
    assert set(ALLOWED) == {user.name for user in TOPOLOGY.users}


def test_the_table_lists_only_operations_that_are_tried() -> None:
    assert set().union(*ALLOWED.values()) <= everything()


@pytest.mark.parametrize(
    ("trial", "user"), [(u, u) for u in ALLOWED], indirect=["trial"], ids=ALLOWED
)
def test_a_broker_user_has_exactly_the_listed_permissions(trial: Trial, user: str) -> None:
    # When the user tries every operation; deletions come last, in case they are permitted
    operations = sorted(everything(), key=lambda o: (o[0].startswith("delete"), o))
    can = {operation for operation in operations if trial.may(operation)}

    # Then exactly the listed operations succeed
    assert can - ALLOWED[user] == set(), "excess permissions"
    assert ALLOWED[user] - can == set(), "missing permissions"


@pytest.mark.parametrize("trial", ["order"], indirect=True)
def test_a_user_cannot_publish_in_the_name_of_another(trial: Trial) -> None:
    trial.publish("orders.topic", "order.created", user_id="order")

    with pytest.raises(PreconditionFailed, match="user_id"):
        trial.publish("orders.topic", "order.created", user_id="inventory")


@pytest.mark.parametrize("trial", ["monitor"], indirect=True)
def test_an_excess_permission_is_detected(trial: Trial, broker: Vhost) -> None:
    # Given a user with all permissions
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    broker.request("PUT", f"/permissions/{broker.name}/monitor", json=rights)
    broker.request("DELETE", f"/topic-permissions/{broker.name}/monitor")

    # Then no operation fails for another reason than a missing permission
    assert {operation for operation in everything() if not trial.may(operation)} == set()


def test_a_user_has_no_permissions_in_another_vhost(servers: Infrastructure, broker: Vhost) -> None:
    # Given another vhost
    with fresh_vhost(servers) as other:
        for user in ALLOWED:
            # Then each user is rejected there
            Trial(servers, broker, user).close()
            with pytest.raises(NotAllowed, match="access to vhost"):
                Trial(servers, other, user)
