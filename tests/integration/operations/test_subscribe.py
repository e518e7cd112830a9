"""`orderctl subscribe` on a real broker: what it puts on a queue, and when it does not."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from kombu.message import Message

from common.events import Data, Line, OrderCancelled, OrderCreated
from common.kombu_topology import EVENTS, FRAUD, STREAM
from console.actions import subscribe as actions
from console.broker import backfill
from console.orderctl import main
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from eventbus.messaging.publisher import CONFIRM_TIMEOUT
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

NOW = datetime.now(UTC)

#: Which the tests do not wait for.
SETTLED = actions.SETTLED
LINES = (Line(sku="TEA", quantity=1, unit_price=5),)
ORDERED: dict[str, Any] = {"customer_email": "ada@example.com", "currency": "EUR", "total": 5}


@pytest.fixture
def orderctl(
    servers: Infrastructure, broker: Vhost, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Orderctl]:
    """Run the command against the test's vhost, without the wait for what is on its way."""
    monkeypatch.setattr(actions, "SETTLED", 0.0)
    environment = {
        "ORDERS_ENV_FILE": str(servers.operator_environment),
        "BROKER_VHOST": broker.name,
        "BROKER_PORT": str(broker.amqp_port),
    }

    def run(*arguments: str, **changes: str) -> Result:
        return CliRunner().invoke(main, arguments, env=environment | changes)

    return run


def created(number: int, *, age: timedelta = timedelta()) -> Event:
    return an_event(number, OrderCreated(lines=LINES, **ORDERED), age=age)


def an_event(number: int, data: Data, *, age: timedelta = timedelta()) -> Event:
    return Event(
        id=UUID(int=number),
        source="order",
        subject=UUID(int=number + 1_000),
        sequence=1,
        time=NOW - age,
        data=data,
    )


def tell(
    broker: Vhost,
    *events: Event,
    traceparent: str | None = None,
    exchange: str = EVENTS.name,
    routing_key: str | None = None,
) -> None:
    """Publish events as a relay does, or past the exchange."""
    for event in events:
        broker.publish(
            codec.wrap(codec.encode(event)),
            exchange=exchange,
            routing_key=routing_key or event.type,
            headers=dict(task_headers(str(event.id), event.type, traceparent)),
            message_id=str(event.id),
            correlation_id=str(event.id),
            type=event.type,
            app_id="order",
            timestamp=int(event.time.timestamp()),
        )


def empty(broker: Vhost) -> None:
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}/contents")


def events_on(broker: Vhost) -> list[Event]:
    return [codec.decode(json.loads(m.body)[1]["event"]) for m in broker.messages(FRAUD.queue)]


def numbers_on(broker: Vhost) -> list[int]:
    return [event.id.int for event in events_on(broker)]


def test_history_is_put_on_the_services_queue_in_its_order_and_says_so(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # given a queue that has gone, with what was in it
    tell(broker, *(created(n) for n in range(5)))
    cancelled = OrderCancelled(reason="customer", lines=LINES, **ORDERED)
    tell(broker, an_event(5, cancelled))
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
    tell(broker, created(6))
    assert events_on(broker)[-1] == created(6)


def test_a_copy_is_a_message_as_the_relay_makes_it(broker: Vhost, orderctl: Orderctl) -> None:
    # given
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    tell(broker, created(1), traceparent=trace)
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
    tell(broker, created(1))
    empty(broker)
    # one at a time: of a batch, what is beyond the watermark is copied, too
    monkeypatch.setattr(actions, "BATCH", 1)
    bind, take = actions._bind, actions._watermark
    taken: list[int] = []

    def binding(*arguments: Any) -> None:
        tell(broker, created(2))
        bind(*arguments)
        tell(broker, created(3))

    def taking(connection: Any) -> int:
        if taken:
            tell(broker, created(4))
        taken.append(take(connection))
        tell(broker, created(4 + len(taken)))
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
    tell(broker, created(1))
    empty(broker)
    copy, on_its_way = actions._copy, iter([created(2)])

    def copying(*arguments: Any) -> None:
        for event in on_its_way:
            tell(broker, event, exchange="", routing_key=STREAM)
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
    tell(broker, created(1, age=timedelta(days=14, hours=1)))
    tell(broker, created(2, age=timedelta(days=13, hours=23)))
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
    tell(broker, *(created(n) for n in range(4)))
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


@pytest.mark.parametrize("start", ["yesterday", "2026-11-25T08:00", "-1", ""])
def test_a_begin_that_is_none_is_refused(orderctl: Orderctl, start: str) -> None:
    result = orderctl("subscribe", "fraud", "--from", start)

    assert result.exit_code == 64
    assert "is not `first`, an offset, or a time such as" in result.stderr


def test_a_queue_is_not_filled_further_than_its_worker_takes_from_it(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given more events than may wait at once, and no worker
    monkeypatch.setattr(actions, "BATCH", 10)
    monkeypatch.setattr(backfill, "DEPTH_LIMIT", 25)
    monkeypatch.setattr(backfill, "PATIENCE", 0.5)
    tell(broker, *(created(n) for n in range(40)))
    empty(broker)

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then it stops, where no more fits, and says what to look at and how to go on
    assert result.exit_code == 1
    waiting = broker.depth(FRAUD.queue)
    assert 15 < waiting <= 25
    assert f"fraud.queue has {waiting} messages, and none was consumed" in result.stderr
    assert "is its worker running?" in result.stderr
    [again] = [text for text in result.stderr.splitlines() if text.startswith("stopped")]

    # and so it goes on
    first = numbers_on(broker)
    empty(broker)
    command = again.partition("orderctl ")[2].split()
    assert orderctl(*command).exit_code == 0
    second = numbers_on(broker)
    assert (first, second) == (list(range(waiting)), list(range(waiting, 40)))


def test_without_the_stream_it_says_so_and_changes_nothing(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # given
    broker.request("DELETE", f"/queues/{broker.name}/{STREAM}")
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then
    assert (result.exit_code, result.stdout) == (1, "")
    assert STREAM in result.stderr
    assert result.stderr.count("\n") == 1
    queues = broker.request("GET", f"/queues/{broker.name}").json()
    assert FRAUD.queue not in {queue["name"] for queue in queues}


def test_without_a_password_it_names_the_file(orderctl: Orderctl, tmp_path: Any) -> None:
    result = orderctl("subscribe", "fraud", "--from", "first", SECRETS_DIR=str(tmp_path))

    assert result.exit_code == 1
    assert f"password file {tmp_path}/replayer.broker does not exist" in result.stderr


def test_a_topology_that_cannot_be_as_it_must_keeps_history_back(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # given a queue that is another one
    tell(broker, created(1))
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")
    broker.request("PUT", f"/queues/{broker.name}/{FRAUD.queue}", json={"durable": True})

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then
    assert result.exit_code == 1
    assert "nothing is replayed while the broker differs from the code" in result.stderr
    assert "queue fraud.queue" in result.stderr
    assert broker.depth(FRAUD.queue) == 0


def test_a_message_that_is_no_event_is_for_the_service_to_refuse(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # given
    headers = dict(task_headers("e-1", "order.created", None))
    bodies = [b'[[],{"event":null},{}]', b'{"a":1}', b"no JSON"]
    for body in bodies:
        broker.publish(body, exchange=EVENTS.name, routing_key="order.created", headers=headers)
    empty(broker)

    # when
    result = orderctl("subscribe", "fraud", "--from", "first")

    # then
    assert result.exit_code == 0, result.output
    assert [message.body for message in broker.messages(FRAUD.queue)] == bodies
