"""(b) Events a second through the inventory: ours against a task and a transaction for each."""

from bench.plain import inventory as plain
from bench.system import execute, order_created, process, until
from common import codec
from common.kombu_topology import EVENTS
from common.publisher import _task_headers
from tests.support.stack import Stack

_RATE = """
SELECT count(*), extract(epoch FROM max(handled_at) - min(handled_at)) FROM inbox
"""


def ours(stack: Stack, events: int) -> float:
    """Return our worker's events a second, from its first commit to its last."""
    _clear(stack)
    _publish(stack, events, exchange=EVENTS.name, routing_key="order.created")
    stack.start("inventory-worker")
    try:
        return _rate(stack, events)
    finally:
        stack.kill("inventory-worker")


def others(stack: Stack, events: int) -> float:
    """Return the plain worker's."""
    _clear(stack)
    with stack.vhost.connect() as connection:
        arguments = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare(
            plain.QUEUE, durable=True, auto_delete=False, arguments=arguments
        )
    _publish(stack, events, exchange="", routing_key=plain.QUEUE)
    database = stack.databases["inventory"].settings
    command = ["celery", "-q", "-A", "bench.plain.inventory", "worker", "-n", "plain@plain"]
    command += ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with process(
        command,
        stack.directory / "plain-inventory.log",
        PLAIN_BROKER_URL=stack.vhost.amqp_url,
        PLAIN_CA_FILE=str(stack.vhost.ca_file),
        PLAIN_DATABASE_USER=str(database["database_user"]),
        PLAIN_DATABASE_PASSWORD=str(database["database_password"]),
        PLAIN_DATABASE_PORT=str(database["database_port"]),
        PLAIN_DATABASE_NAME=str(database["database_name"]),
    ):
        return _rate(stack, events)


def _rate(stack: Stack, events: int) -> float:
    def done() -> bool:
        return execute(stack, "inventory", "SELECT count(*) FROM inbox") == [(events,)]

    until(done, within=300)
    ((count, seconds),) = execute(stack, "inventory", _RATE)
    return float(count) / float(seconds)  # type: ignore[arg-type]


def _clear(stack: Stack) -> None:
    tables = "inbox, outbox, reservation_lines, reservations"
    execute(stack, "inventory", f"TRUNCATE {tables}")
    for queue in ("inventory.queue", "notification.queue"):
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{queue}/contents")


def _publish(stack: Stack, events: int, *, exchange: str, routing_key: str) -> None:
    from amqp import Message

    with stack.vhost.connect() as connection:
        channel = connection.channel()
        channel.confirm_select()
        confirmed = 0

        def on_ack(tag: int, _multiple: bool) -> None:
            nonlocal confirmed
            confirmed = max(confirmed, tag)

        channel.events["basic_ack"].add(on_ack)
        for number in range(events):
            event = order_created(number)
            message = Message(
                codec.wrap(codec.encode(event)),
                content_type="application/json",
                content_encoding="utf-8",
                delivery_mode=2,
                message_id=str(event.id),
                application_headers=_task_headers(str(event.id), event.type, None),
            )
            channel.basic_publish(message, exchange=exchange, routing_key=routing_key)
            while number - confirmed > 1000:
                connection.drain_events(timeout=10)
        while confirmed < events:
            connection.drain_events(timeout=10)
