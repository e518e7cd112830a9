"""`orderctl topology apply` replaces a queue that has the arguments of an earlier release."""

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
from testkit.eventually import PATIENCE, becomes, eventually
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

#: The arguments in the previous release.
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
    """A broker on which the fraud check's queue has the earlier arguments, and holds events."""
    path = f"/queues/{broker.name}/{FRAUD.queue}"
    broker.request("DELETE", path)
    broker.request("PUT", path, json={"durable": True, "arguments": FORMER})
    bindings = f"/bindings/{broker.name}/e/{EVENTS.name}/q/{FRAUD.queue}"
    for event_type in FRAUD.consumed_types:
        broker.request("POST", bindings, json={"routing_key": event_type})
    # The earlier release had no overflow queue.
    broker.request("DELETE", f"/exchanges/{broker.name}/{FRAUD.overflow}")
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.overflow}")
    put(broker, *range(1, 701))
    return broker


def put(broker: Vhost, *numbers: int) -> None:
    """Publish messages like a relay."""
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
    """Remove the messages of the service's queue, and return their numbers in order."""
    numbers = []
    with broker.connect() as connection:
        channel = connection.channel()
        while (message := channel.basic_get(FRAUD.queue)) is not None:
            numbers.append(int(message.properties["message_id"]))
    return sorted(numbers)


def arguments(broker: Vhost) -> dict[str, object]:
    arguments: dict[str, object] = broker.request(
        "GET", f"/queues/{broker.name}/{FRAUD.queue}"
    ).json()["arguments"]
    return arguments


@contextmanager
def consumer(broker: Vhost, *, held: int) -> Iterator[list[int]]:
    """Hold messages of the queue unacknowledged during the block."""
    taken: list[int] = []
    with broker.connect() as connection:
        channel = connection.channel()
        channel.basic_qos(0, held, False)
        channel.basic_consume(
            FRAUD.queue,
            callback=lambda m: taken.append(int(m.properties["message_id"])),
        )
        while len(taken) < held:
            connection.drain_events(timeout=PATIENCE)
        yield taken


def test_a_queue_with_old_arguments_is_replaced_with_its_messages(
    former: Vhost, orderctl: Orderctl
) -> None:
    # Given a plan that reports the queue
    planned = orderctl("topology", "plan")
    assert planned.exit_code == 2
    assert "queue fraud.queue: arguments is {" in planned.stdout
    assert "; its messages are kept" in planned.stdout

    # When the topology is applied
    applied = orderctl("topology", "apply")

    # Then the queue is replaced with all its messages
    assert applied.exit_code == 0, applied.output
    assert "replaced queue fraud.queue: " in applied.stdout
    assert arguments(former)["x-overflow"] == "drop-head"
    assert numbers(former) == list(range(1, 701))
    assert orderctl("topology", "plan").exit_code == 0

    # And new events arrive
    put(former, 701)
    becomes(lambda: former.depth(FRAUD.queue), 701)


@pytest.mark.parametrize("step", ["begin", "remove_old", "finish", "_empty_spare"])
def test_an_interrupted_replacement_is_completed_by_the_next_run(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    # Given a run that ends right after a step
    done = getattr(Replacement, step)

    def and_die(self: Replacement) -> None:
        if step != "_empty_spare":
            done(self)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Replacement, step, and_die)
        assert orderctl("topology", "apply").exit_code == 1
    # And events that arrive before the next run
    put(former, 701, 702)

    # When the topology is applied again
    again = orderctl("topology", "apply")

    # Then the replacement is complete
    assert again.exit_code == 0, again.output
    assert arguments(former)["x-overflow"] == "drop-head"
    # The inbox drops messages that arrived twice.
    assert sorted(set(numbers(former))) == list(range(1, 703))
    assert orderctl("topology", "plan").exit_code == 0


def test_a_queue_whose_messages_are_held_is_not_replaced(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a consumer that holds messages
    with consumer(former, held=7) as held, monkeypatch.context() as patch:
        patch.setattr(queue_replacement, "PATIENCE", 5.0)

        # When the topology is applied
        refused = orderctl("topology", "apply")
        put(former, 701)

        # Then the queue is not replaced
        assert refused.exit_code == 1
        assert "consumers hold messages of fraud.queue: stop them and apply again" in refused.stderr
        assert arguments(former) == FORMER
        assert len(held) == 7

    # And when the consumer is gone, it is
    eventually(lambda: _assert_depth(former, FRAUD.queue, 701))
    assert orderctl("topology", "apply").exit_code == 0
    assert numbers(former) == list(range(1, 702))


def test_messages_that_return_during_deletion_request_catch_up(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that returns from a retry tier at that moment
    is_settled = Replacement._is_settled

    def and_one_more(self: Replacement) -> bool:
        settled = is_settled(self)
        former.publish(b"[]", exchange="", routing_key=FRAUD.queue, headers={}, message_id="7")
        return settled

    monkeypatch.setattr(Replacement, "_is_settled", and_one_more)

    # When the queue is replaced
    assert orderctl("topology", "apply").exit_code == 0

    # Then a marker requests catch-up from the stream
    becomes(lambda: former.depth(FRAUD.overflow), 1)


def test_two_commands_do_not_replace_a_queue_at_once(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a second command that begins during a replacement
    finish = Replacement.finish
    others: list[Result] = []

    def other_first(self: Replacement) -> int:
        if not others:
            others.append(orderctl("topology", "plan"))
            others.append(orderctl("topology", "apply"))
        return finish(self)

    monkeypatch.setattr(Replacement, "finish", other_first)

    # When the queue is replaced
    applied = orderctl("topology", "apply")

    # Then the second command leaves it alone, and no message is lost
    plan, second = others
    assert "queue fraud.queue: messages are in fraud.queue.spare" in plan.stdout
    assert second.exit_code == 1
    assert "another command replaces fraud.queue: wait until it ends" in second.stderr
    assert applied.exit_code == 0, applied.output
    assert numbers(former) == list(range(1, 701))
    assert orderctl("topology", "plan").stdout == "topology: no differences\n"


def test_messages_that_are_deleted_with_the_spare_queue_request_catch_up(
    former: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a message that arrives in the spare queue after it was emptied
    move = Replacement._move

    def and_one_more(self: Replacement, source: str, target: str) -> int:
        moved = move(self, source, target)
        if source == FRAUD.spare_queue and not moved:
            former.publish(b"[]", exchange="", routing_key=source, headers={}, message_id="7")
        return moved

    monkeypatch.setattr(Replacement, "_move", and_one_more)

    # When the queue is replaced
    assert orderctl("topology", "apply").exit_code == 0

    # Then a marker requests catch-up from the stream
    becomes(lambda: former.depth(FRAUD.overflow), 1)
