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
from testkit.servers.vhosts import Vhost

Orderctl = Callable[..., Result]

pytestmark = pytest.mark.usefixtures("broker", "no_settling")


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
    publish(broker, *(created(n) for n in range(40)))
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
    publish(broker, created(1))
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
