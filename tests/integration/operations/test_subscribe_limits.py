"""`orderctl subscribe` stops, or changes nothing, when history cannot be delivered."""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from common.kombu_topology import EVENTS, FRAUD, STREAM
from console.actions import subscribe as actions
from console.broker import backfill
from eventbus.messaging.event_message import task_headers
from testkit.data.subscription import created, empty, numbers_on, publish
from testkit.eventually import becomes
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("broker", "no_settling")


@pytest.mark.parametrize("start", ["yesterday", "2026-11-25T08:00", "-1", ""])
def test_an_invalid_start_is_rejected(orderctl: Orderctl, start: str) -> None:
    result = orderctl("subscribe", "fraud", "--from", start)

    assert result.exit_code == 64
    assert "is not `first`, an offset, or a time such as" in result.stderr


def test_a_queue_without_a_worker_is_not_overfilled(
    broker: Vhost, orderctl: Orderctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given more events than the limit of the queue, and no worker
    monkeypatch.setattr(actions, "BATCH", 10)
    monkeypatch.setattr(backfill, "DEPTH_LIMIT", 25)
    monkeypatch.setattr(backfill, "PATIENCE", 0.5)
    publish(broker, *(created(n) for n in range(40)))
    empty(broker)

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then the command stops at the limit, and prints how to continue
    assert result.exit_code == 1
    waiting = broker.depth(FRAUD.queue)
    assert 15 < waiting <= 25
    assert f"fraud.queue has {waiting} messages, and none was consumed" in result.stderr
    assert "is its worker running?" in result.stderr
    [again] = [text for text in result.stderr.splitlines() if text.startswith("stopped")]

    # And the printed command delivers the rest
    first = numbers_on(broker)
    empty(broker)
    command = again.partition("orderctl ")[2].split()
    assert orderctl(*command).exit_code == 0
    second = numbers_on(broker)
    assert (first, second) == (list(range(waiting)), list(range(waiting, 40)))


def test_a_missing_stream_is_reported_and_changes_nothing(
    broker: Vhost, orderctl: Orderctl
) -> None:
    # Given a broker without the stream and the queue
    broker.request("DELETE", f"/queues/{broker.name}/{STREAM}")
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then the command fails, and creates no queue
    assert (result.exit_code, result.stdout) == (1, "")
    audited, error = result.stderr.splitlines()
    assert audited.startswith("not in the audit log: ")
    assert STREAM in error
    queues = broker.request("GET", f"/queues/{broker.name}").json()
    assert FRAUD.queue not in {queue["name"] for queue in queues}


def test_a_missing_password_file_is_named(orderctl: Orderctl, tmp_path: Any) -> None:
    result = orderctl("subscribe", "fraud", "--from", "first", SECRETS_DIR=str(tmp_path))

    assert result.exit_code == 1
    assert f"password file {tmp_path}/replayer.broker does not exist" in result.stderr


def test_topology_drift_prevents_a_replay(broker: Vhost, orderctl: Orderctl) -> None:
    # Given a queue with different arguments
    publish(broker, created(1))
    broker.request("DELETE", f"/queues/{broker.name}/{FRAUD.queue}")
    broker.request("PUT", f"/queues/{broker.name}/{FRAUD.queue}", json={"durable": True})

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then the command fails, and delivers nothing
    assert result.exit_code == 1
    assert "nothing is replayed while the broker differs from the code" in result.stderr
    assert "queue fraud.queue" in result.stderr
    becomes(lambda: broker.depth(FRAUD.queue), 0)


def test_invalid_messages_are_delivered_unchanged(broker: Vhost, orderctl: Orderctl) -> None:
    # Given messages that are not events
    headers = dict(task_headers("e-1", "order.created", None))
    bodies = [b'[[],{"event":null},{}]', b'{"a":1}', b"no JSON"]
    for body in bodies:
        broker.publish(body, exchange=EVENTS.name, routing_key="order.created", headers=headers)
    empty(broker)

    # When the service subscribes
    result = orderctl("subscribe", "fraud", "--from", "first")

    # Then they are delivered unchanged
    assert result.exit_code == 0, result.output
    assert [message.body for message in broker.messages(FRAUD.queue)] == bodies
