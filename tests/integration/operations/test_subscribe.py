"""`orderctl subscribe` delivers past events to a service's queue."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import Result
from kombu.message import Message

from common.events import OrderCancelled, OrderCreated
from common.kombu_topology import FRAUD, STREAM
from console.actions import subscribe as actions
from eventbus.messaging.publisher import CONFIRM_TIMEOUT
from testkit.data.subscription import (
    LINES,
    NOW,
    ORDERED,
    an_event,
    created,
    empty,
    events_on,
    numbers_on,
    publish,
)
from testkit.eventually import becomes
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("broker", "no_settling")


#: The usual wait, which the tests omit.
SETTLED = actions.SETTLED


def test_history_is_delivered_in_order_and_marked(broker: Vhost, orderctl: Orderctl) -> None:
    # Given a queue that was deleted with its messages
    publish(broker, *(created(n) for n in range(5)))
    cancelled = OrderCancelled(reason="customer", lines=LINES, **ORDERED)
    publish(broker, an_event(5, cancelled))
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")
    depth = broker.depth("inventory.queue")

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then its queue has all events that it consumes, marked as replayed, and no other queue has
    # them
    assert result.exit_code == 0, result.output
    events = events_on(broker)
    assert [event.id.int for event in events] == [0, 1, 2, 3, 4]
    assert all(event.replayed for event in events)
    assert events[0].data == OrderCreated(lines=LINES, **ORDERED)
    becomes(lambda: broker.depth("inventory.queue"), depth)
    assert "created queue fraud.queue" in result.stderr
    assert "created binding orders.topic -[order.created]-> fraud.queue" in result.stderr
    assert result.stdout.startswith("fraud: 5 events of history delivered to fraud.queue in ")

    # And later events arrive unmarked
    publish(broker, created(6))
    assert events_on(broker)[-1] == created(6)


def test_a_copy_equals_the_message_of_the_relay(broker: Vhost, orderctl: Orderctl) -> None:
    # Given an event in the queue, as the relay published it
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    publish(broker, created(1), traceparent=trace)
    [original] = broker.messages(FRAUD.queue)
    empty(broker)

    # When it is replayed
    orderctl("subscribe", "fraud", "--from", "first")

    # Then the copy differs in the mark only
    [copy] = broker.messages(FRAUD.queue)
    assert _headers(copy) == _headers(original)
    assert copy.properties.keys() == original.properties.keys() - {"timestamp"}
    for name in copy.properties.keys() - {"application_headers"}:
        assert copy.properties[name] == original.properties[name]
    copied, published = json.loads(copy.body), json.loads(original.body)
    assert copied == [
        published[0],
        {"event": published[1]["event"] | {"replayed": True}},
        published[2],
    ]


def _headers(message: Message) -> dict[str, Any]:
    return {k: v for k, v in message.headers.items() if not k.startswith("x-")}


def test_events_published_during_a_replay_are_not_history(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given events before the binding, right after it, and after history was read
    publish(broker, created(1))
    empty(broker)
    # One event at a time: a batch is copied as a whole, even beyond the watermark.
    monkeypatch.setattr(actions, "BATCH", 1)
    bind, take = actions._bind, actions._watermark
    taken: list[int] = []

    def binding(*arguments: Any) -> None:
        publish(broker, created(2))
        bind(*arguments)
        publish(broker, created(3))

    def taking(connection: Any) -> int:
        if taken:
            publish(broker, created(4))
        taken.append(take(connection))
        publish(broker, created(4 + len(taken)))
        return taken[-1]

    monkeypatch.setattr(actions, "_bind", binding)
    monkeypatch.setattr(actions, "_watermark", taking)

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then all have arrived, and only the event before the binding is marked
    assert result.exit_code == 0, result.output
    events = events_on(broker)
    assert {event.id.int for event in events} == {1, 2, 3, 4, 5, 6}
    assert {event.id.int for event in events if event.replayed} == {1}
    # And the event after the watermark was not copied
    numbers = [event.id.int for event in events]
    assert (numbers.count(4), numbers.count(6)) == (2, 1)


def test_events_in_flight_at_the_binding_are_copied_unmarked(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an event that was routed before the binding, and stored in the stream after it
    publish(broker, created(1))
    empty(broker)
    copy, in_flight = actions._copy, iter([created(2)])

    def copying(*arguments: Any) -> None:
        for event in in_flight:
            publish(broker, event, exchange="", routing_key=STREAM)
        copy(*arguments)

    # And a wait that is longer than the timeout of confirms, scaled down
    assert SETTLED > CONFIRM_TIMEOUT
    monkeypatch.setattr(actions, "SETTLED", 1.0)
    monkeypatch.setattr(actions, "_copy", copying)

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then the event is copied without the mark
    assert result.exit_code == 0, result.output
    assert [(event.id.int, event.replayed) for event in events_on(broker)] == [
        (1, True),
        (2, False),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_events_older_than_the_dedup_window_are_skipped(
    broker: Vhost, orderctl: Orderctl, known: bool
) -> None:
    # Given events on both sides of the dedup window
    publish(broker, created(1, age=timedelta(days=14, hours=1)))
    publish(broker, created(2, age=timedelta(days=13, hours=23)))
    if known:
        empty(broker)
    else:
        broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then the older one is skipped
    assert numbers_on(broker) == [2]
    assert "fraud: 1 skipped, older than 14 days\n" in result.stdout


def test_history_can_start_later(broker: Vhost, orderctl: Orderctl) -> None:
    # Given four events
    publish(broker, *(created(n) for n in range(4)))
    third = next(m for m in _stream(broker) if m.properties["message_id"] == str(UUID(int=2)))
    empty(broker)

    # When history starts at the third
    result = orderctl("subscribe", "fraud", "--from", str(third.headers["x-stream-offset"]))

    # Then the third and fourth are delivered
    assert result.exit_code == 0, result.output
    assert numbers_on(broker) == [2, 3]

    # And from a time in the future, no event is delivered
    empty(broker)
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    assert orderctl("subscribe", "fraud", "--from", tomorrow).exit_code == 0
    assert numbers_on(broker) == []


def _stream(broker: Vhost) -> list[Message]:
    from eventbus.messaging.stream import Stream

    with broker.connect() as connection:
        stream = Stream(connection, STREAM, "first")
        messages = []
        while entries := stream.read(100, timeout=2.0):
            messages += [entry.message for entry in entries]
        return messages
