"""`orderctl topology apply` on a queue with the arguments of an earlier release."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from amqp import Message
from click.testing import Result

from common.kombu_topology import DEAD_LETTERS, EVENTS, FRAUD
from console.broker import queue_replacement
from console.broker.queue_replacement import Replacement
from eventbus.catch_up.copies import Copies
from eventbus.topology.limits import DELIVERY_LIMIT
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

#: As the release before this one declared it.
FORMER = {
    "x-queue-type": "quorum",
    "x-dead-letter-exchange": DEAD_LETTERS.name,
    "x-dead-letter-routing-key": FRAUD.name,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
    "x-delivery-limit": DELIVERY_LIMIT,
    "x-max-length": 1_000_000,
}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit the wait for the messages that consumers hold."""
    monkeypatch.setattr(queue_replacement, "PATIENCE", 20.0)


@pytest.fixture
def former(broker: Vhost) -> Vhost:
    """A broker whose queue of the fraud check is the earlier release's, with events in it."""
    path = f"/queues/{broker.name}/{FRAUD.queue}"
    broker.request("DELETE", path)
    broker.request("PUT", path, json={"durable": True, "arguments": FORMER})
    bindings = f"/bindings/{broker.name}/e/{EVENTS.name}/q/{FRAUD.queue}"
    for event_type in FRAUD.consumed_types:
        broker.request("POST", bindings, json={"routing_key": event_type})
    # without what this release adds, and with what it leaves alone
    broker.request("DELETE", f"/exchanges/{broker.name}/{FRAUD.overflow}")
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.overflow}")
    put(broker, *range(1, 701))
    return broker


def put(broker: Vhost, *numbers: int) -> None:
    """Publish messages as relays do."""
    with broker.connect() as connection:
        events = Copies(connection, FRAUD.queue, exchange=EVENTS.name, routing_key="order.created")
        events.put([message(number, user=broker.admin_user) for number in numbers])


def message(number: int, *, user: str) -> Message:
    return Message(
        b"[]",
        message_id=str(number),
        delivery_mode=2,
        user_id=user,
        application_headers={"task": "order.created", "retries": 0},
    )


def _assert_depth(broker: Vhost, queue: str, depth: int) -> None:
    assert broker.depth(queue) == depth


def numbers(broker: Vhost) -> list[int]:
    """What is in the service's queue, in the order of the numbers."""
    found = []
    with broker.connect() as connection:
        channel = connection.channel()
        while (message := channel.basic_get(FRAUD.queue)) is not None:
            found.append(int(message.properties["message_id"]))
    return sorted(found)


def arguments(broker: Vhost) -> dict[str, object]:
    found: dict[str, object] = broker.request("GET", f"/queues/{broker.name}/{FRAUD.queue}").json()[
        "arguments"
    ]
    return found


@contextmanager
def consumer(broker: Vhost, *, held: int) -> Iterator[list[int]]:
    """Keep messages of the queue for as long as the block lasts."""
    taken: list[int] = []
    with broker.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(0, held, False)
        channel.basic_consume(
            FRAUD.queue,
            callback=lambda m: taken.append(int(m.properties["message_id"])),
        )
        while len(taken) < held:
            connection.drain_events(timeout=10)
        yield taken


def test_a_queue_with_former_arguments_is_replaced_and_keeps_its_messages(
    former: Vhost, orderctl: Orderctl
) -> None:
    # given
    planned = orderctl("topology", "plan")
    assert planned.exit_code == 2
    assert "queue fraud.queue: arguments is {" in planned.stdout
    assert "; its messages are kept" in planned.stdout

    # when
    applied = orderctl("topology", "apply")

    # then
    assert applied.exit_code == 0, applied.output
    assert "replaced queue fraud.queue: " in applied.stdout
    assert arguments(former)["x-overflow"] == "drop-head"
    assert numbers(former) == list(range(1, 701))
    assert orderctl("topology", "plan").exit_code == 0

    # and events come live
    put(former, 701)
    assert former.depth(FRAUD.queue) == 701


@pytest.mark.parametrize("step", ["begin", "remove_old", "finish", "_empty_spare"])
def test_an_interrupted_replacement_is_finished_by_the_next_run(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # given a run that ends right after a step
    done = getattr(Replacement, step)

    def and_die(self: Replacement) -> None:
        if step != "_empty_spare":
            done(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Replacement, step, and_die)
        assert orderctl("topology", "apply").exit_code == 1
    # and events that come before the next one
    put(former, 701, 702)

    # when
    again = orderctl("topology", "apply")

    # then
    assert again.exit_code == 0, again.output
    assert arguments(former)["x-overflow"] == "drop-head"
    # the inbox drops what came both ways
    assert sorted(set(numbers(former))) == list(range(1, 703))
    assert orderctl("topology", "plan").exit_code == 0


def test_a_queue_whose_messages_are_held_stays_as_it_is(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    with consumer(former, held=7) as held, monkeypatch.context() as patch:
        patch.setattr(queue_replacement, "PATIENCE", 5.0)

        # when
        refused = orderctl("topology", "apply")
        put(former, 701)

        # then
        assert refused.exit_code == 1
        assert "consumers hold messages of fraud.queue: stop them and apply again" in refused.stderr
        assert arguments(former) == FORMER
        assert len(held) == 7

    # and when its consumer is gone
    eventually(lambda: _assert_depth(former, FRAUD.queue, 701))
    assert orderctl("topology", "apply").exit_code == 0
    assert numbers(former) == list(range(1, 702))


def test_messages_that_come_back_while_it_is_deleted_are_taken_from_the_stream(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a message that comes from a retry tier in that moment
    is_settled = Replacement._is_settled

    def and_one_more(self: Replacement) -> bool:
        settled = is_settled(self)
        former.publish(b"[]", exchange="", routing_key=FRAUD.queue, headers={}, message_id="7")
        return settled

    monkeypatch.setattr(Replacement, "_is_settled", and_one_more)

    # when
    assert orderctl("topology", "apply").exit_code == 0

    # then the service is told to read the stream
    assert former.depth(FRAUD.overflow) == 1
