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
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("broker", "no_settling")


#: Which the tests do not wait for.
SETTLED = actions.SETTLED


def test_history_is_put_on_the_services_queue_in_its_order_and_says_so(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # given a queue that has gone, with what was in it
    publish(broker, *(created(n) for n in range(5)))
    cancelled = OrderCancelled(reason="customer", lines=LINES, **ORDERED)
    publish(broker, an_event(5, cancelled))
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")
    depth = broker.depth("inventory.queue")

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then what it consumes is there, marked, and nobody else got it
    assert result.exit_code == 0, result.output
    found = events_on(broker)
    assert [event.id.int for event in found] == [0, 1, 2, 3, 4]
    assert all(event.replayed for event in found)
    assert found[0].data == OrderCreated(lines=LINES, **ORDERED)
    assert broker.depth("inventory.queue") == depth
    assert "created queue fraud.queue" in result.stderr
    assert "created binding orders.topic -[order.created]-> fraud.queue" in result.stderr
    assert result.stdout.startswith("fraud: 5 events of history delivered to fraud.queue in ")

    # and from now on it hears the others
    publish(broker, created(6))
    assert events_on(broker)[-1] == created(6)


def test_a_copy_is_a_message_as_the_relay_makes_it(broker: Vhost, orderctl: Orderctl) -> None:
    # given
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    publish(broker, created(1), traceparent=trace)
    [original] = broker.messages(FRAUD.queue)
    empty(broker)

    # when
    orderctl("subscribe", "fraud", "--from", "first")

    # then
    [copy] = broker.messages(FRAUD.queue)
    assert _headers(copy) == _headers(original)
    assert copy.properties.keys() == original.properties.keys() - {"timestamp"}
    for name in copy.properties.keys() - {"application_headers"}:
        assert copy.properties[name] == original.properties[name]
    copied, told = json.loads(copy.body), json.loads(original.body)
    assert copied == [told[0], {"event": told[1]["event"] | {"replayed": True}}, told[2]]


def _headers(message: Message) -> dict[str, Any]:
    return {k: v for k, v in message.headers.items() if not k.startswith("x-")}


def test_what_comes_while_it_replays_is_no_history(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given events before the binding, right after it, and when history has been read
    publish(broker, created(1))
    empty(broker)
    # one at a time: of a batch, what is beyond the watermark is copied, too
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

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then all are there, live or copied or both, and only what was before is marked
    assert result.exit_code == 0, result.output
    found = events_on(broker)
    assert {event.id.int for event in found} == {1, 2, 3, 4, 5, 6}
    assert {event.id.int for event in found if event.replayed} == {1}
    # and what came after the watermark came live only
    numbers = [event.id.int for event in found]
    assert (numbers.count(4), numbers.count(6)) == (2, 1)


def test_what_was_on_its_way_at_the_binding_is_copied_as_it_was(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an event that the exchange took before the binding, and the stream gets after it
    publish(broker, created(1))
    empty(broker)
    copy, on_its_way = actions._copy, iter([created(2)])

    def copying(*arguments: Any) -> None:
        for event in on_its_way:
            publish(broker, event, exchange="", routing_key=STREAM)
        copy(*arguments)

    # and as long a wait as its confirm may take at most, in a test's time
    assert SETTLED > CONFIRM_TIMEOUT
    monkeypatch.setattr(actions, "SETTLED", 1.0)
    monkeypatch.setattr(actions, "_copy", copying)

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then
    assert result.exit_code == 0, result.output
    assert [(event.id.int, event.replayed) for event in events_on(broker)] == [
        (1, True),
        (2, False),
    ]


@pytest.mark.parametrize("known", [True, False])
def test_what_the_inbox_may_not_know_any_more_is_left_out(
    broker: Vhost, orderctl: Orderctl, known: bool
) -> None:
    # given events around the age that the stream keeps
    publish(broker, created(1, age=timedelta(days=14, hours=1)))
    publish(broker, created(2, age=timedelta(days=13, hours=23)))
    if known:
        empty(broker)
    else:
        broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then
    assert numbers_on(broker) == [2]
    assert "fraud: 1 skipped, older than 14 days\n" in result.stdout


def test_history_may_begin_later(broker: Vhost, orderctl: Orderctl) -> None:
    # given
    publish(broker, *(created(n) for n in range(4)))
    third = next(m for m in _stream(broker) if m.properties["message_id"] == str(UUID(int=2)))
    empty(broker)

    # when
    result = orderctl("subscribe", "fraud", "--from", str(third.headers["x-stream-offset"]))

    # then
    assert result.exit_code == 0, result.output
    assert numbers_on(broker) == [2, 3]

    # and from a time that has not come yet there is none
    empty(broker)
    tomorrow = (NOW + timedelta(days=1)).isoformat()
    assert orderctl("subscribe", "fraud", "--from", tomorrow).exit_code == 0
    assert numbers_on(broker) == []


def _stream(broker: Vhost) -> list[Message]:
    from eventbus.messaging.stream import Stream

    with broker.connect() as connection:
        stream = Stream(connection, STREAM, "first")
        found = []
        while entries := stream.read(100, timeout=2.0):
            found += [entry.message for entry in entries]
        return found
