"""A queue whose leader does not respond, as without a quorum, is not mistaken for empty."""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from common.kombu_topology import FRAUD
from console.broker import settled_counts
from console.broker.settled_counts import ready
from console.errors import ActionError
from eventbus.database import db
from eventbus.messaging import amqps
from testkit.data.dropping import Subscriber, created, publish
from testkit.eventually import PATIENCE, becomes
from testkit.processes.publishers import PublisherOf
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture
def idle_fraud(
    servers: Infrastructure, broker: Vhost, database_of: Callable[[str], TestDatabase]
) -> Iterator[Subscriber]:
    """The fraud check, with an idle worker."""
    database = database_of("fraud")
    engine = db.engine(database.service_settings)
    subscriber = Subscriber.of(FRAUD, servers, broker, database, db.sessions(engine))
    with subscriber.worker():
        yield subscriber
    engine.dispose()


def suspended(servers: Infrastructure, broker: Vhost, queue: str) -> AbstractContextManager[None]:
    """Suspend the process of a queue's leader for as long as the block lasts."""
    process = f"'{broker.name}_{queue}'"
    return servers.limited("eval", f"sys:suspend({process}).", f"sys:resume({process}).")


def test_an_empty_queue_is_observed_only_if_its_leader_responds(
    servers: Infrastructure, broker: Vhost, idle_fraud: Subscriber
) -> None:
    catch_up = idle_fraud.catch_up()
    try:
        # Given that the broker reports 0 messages for a queue that does not respond
        with suspended(servers, broker, FRAUD.queue):
            assert catch_up._broker.depth() == 0

            # Then the queue is not observed as empty
            assert not catch_up._broker.is_empty()
        assert catch_up._broker.is_empty()
    finally:
        catch_up.close()


def test_a_queue_that_responds_late_is_counted(
    servers: Infrastructure,
    broker: Vhost,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given five messages, and a limit for the answer that resuming a process does not exceed
    publish(publisher_of(), *(created(n) for n in range(5)))
    monkeypatch.setattr(amqps, "ANSWER_LIMIT", PATIENCE)

    # When the leader responds only after the broker's timeout
    with broker.connect() as connection:
        channel = connection.channel()
        with suspended(servers, broker, FRAUD.queue):
            counts: list[int] = []
            counting = threading.Thread(target=lambda: counts.append(ready(channel, FRAUD.queue)))
            counting.start()
            counting.join(0.5)
            assert counts == []
        counting.join(PATIENCE)

    # Then the count is right
    assert counts == [5]


def test_a_count_of_zero_for_a_filled_queue_is_an_error(
    broker: Vhost, publisher_of: PublisherOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a queue with five messages that is counted as empty
    publish(publisher_of(), *(created(n) for n in range(5)))
    monkeypatch.setattr(settled_counts, "_TIMEOUT", 0.1)
    monkeypatch.setattr(settled_counts, "_count", lambda *_: 0)

    # Then counting fails
    with broker.connect() as connection, pytest.raises(ActionError, match=FRAUD.queue):
        ready(connection.channel(), FRAUD.queue)

    # And each message is back in the queue
    becomes(lambda: broker.depth(FRAUD.queue), 5)
