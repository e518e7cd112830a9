"""Events per second through the inventory, compared with a task and a transaction for each."""

from amqp import Message

from bench.load.backlog import order_created
from bench.plain import topology as plain
from bench.plain.processes import environment, worker
from bench.system.servers import empty, execute, process, until
from common.kombu_topology import INVENTORY
from eventbus.events import codec
from eventbus.messaging.event_message import task_headers
from testkit.processes.stack import Stack

#: The query for the number of events of this measurement. It reads an index, because the inbox may
#: contain millions of other events.
_HANDLED = "SELECT count(*) FROM inbox WHERE handled_at > :start"
_RATE = """
SELECT count(*), extract(epoch FROM max(handled_at) - min(handled_at)) FROM inbox
WHERE handled_at > :start
"""


def ours(stack: Stack, events: int) -> float:
    """Return our worker's events per second, from its first commit to its last."""
    empty(stack)
    publish(stack, events, INVENTORY.queue)
    return handled(stack, events)


def others(stack: Stack, events: int) -> float:
    """Return the plain worker's events per second."""
    empty(stack)
    with stack.vhost.connect() as connection:
        arguments = {"x-queue-type": "quorum"}
        connection.default_channel.queue_declare(
            plain.INVENTORY, durable=True, auto_delete=False, arguments=arguments
        )
    publish(stack, events, plain.INVENTORY)
    start = _now(stack)
    log = stack.directory / "plain-inventory.log"
    with process(worker("inventory"), log, **environment(stack, stack.vhost, "inventory")):
        return _rate(stack, events, start)


def handled(stack: Stack, events: int) -> float:
    """Return our worker's events per second for this many events, which its queue must contain."""
    start = _now(stack)
    stack.start("inventory-worker")
    try:
        return _rate(stack, events, start)
    finally:
        # A clean shutdown returns prefetched messages to the queue immediately.
        stack.shut_down("inventory-worker")


def publish(stack: Stack, events: int, queue: str) -> None:
    """Publish `order.created` of this many orders to one queue only, each confirmed."""
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
                application_headers=task_headers(str(event.id), event.type, None),
            )
            channel.basic_publish(message, exchange="", routing_key=queue)
            while number - confirmed > 1000:
                connection.drain_events(timeout=10)
        while confirmed < events:
            connection.drain_events(timeout=10)


def _now(stack: Stack) -> object:
    ((now,),) = execute(stack, "inventory", "SELECT now()")
    return now


def _rate(stack: Stack, events: int, start: object) -> float:
    def done() -> bool:
        ((count,),) = execute(stack, "inventory", _HANDLED, start=start)
        return bool(count >= events)

    until(done, f"{events} events handled by the inventory", within=300)
    ((count, seconds),) = execute(stack, "inventory", _RATE, start=start)
    return float(count / seconds)
