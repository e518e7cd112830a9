"""Set-up of a database and a broker for a first service or a test, without migrations.

In production, migrations create the tables. A deployment step declares the topology, and gives each
service a broker user with the permissions that `eventbus.topology.users` derives.
"""

from kombu.connection import Connection
from sqlalchemy import Engine, text

from eventbus.catch_up.overflow import overflow
from eventbus.consumer.inbox import inbox
from eventbus.consumer.operator_pause import operator_pause
from eventbus.consumer.parked_events import parked_events
from eventbus.consumer.poison import suspects
from eventbus.database import wakeup
from eventbus.database.db import metadata
from eventbus.outbox.table import outbox, relay_state
from eventbus.topology.objects import Topology

_TABLES = (outbox, relay_state, inbox, suspects, operator_pause, parked_events, overflow)


def create_tables(engine: Engine) -> None:
    """Create the library's tables, and the trigger that wakes the relay, in an empty database."""
    with engine.begin() as connection:
        metadata.create_all(connection, tables=_TABLES)
        connection.execute(text(wakeup.DEFINITION.format(table=outbox.name)))


def declare(connection: Connection, topology: Topology) -> None:
    """Declare a topology's exchanges, queues and bindings, and keep existing objects.

    Raises `amqp.exceptions.PreconditionFailed` if an object exists with other arguments.
    """
    with connection.channel() as channel:
        for exchange in topology.exchanges:
            channel.exchange_declare(
                exchange.name,
                exchange.type,
                durable=exchange.durable,
                auto_delete=False,
                arguments=exchange.arguments,  # type: ignore[attr-defined]
            )
        for queue in topology.queues:
            queue(channel).queue_declare()
        for binding in topology.bindings:
            bind = channel.exchange_bind if binding.target_exchange else channel.queue_bind
            target = binding.target_exchange or binding.queue
            bind(target, binding.exchange, binding.routing_key, arguments=binding.arguments)
