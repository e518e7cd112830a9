"""After a pause of its service, a worker handles one event before the others."""

import logging
from dataclasses import replace

import pytest
from billiard.exceptions import WorkerLostError

from eventbus.consumer.cause import Verdict
from eventbus.consumer.receive import Outcome
from eventbus.errors import InvalidEvent
from eventbus.worker.decision import CANARY_WINDOW, Decision
from testkit.processes.event_loop import EventLoop, outage, slow
from testkit.processes.service_pause import (
    BY_OPERATOR,
    BY_WORKER,
    LIMIT,
    bug,
    connect,
    consuming,
    fail,
    only,
    pause_and_resume,
    read,
)


@pytest.fixture
def loop() -> EventLoop:
    """A worker that consumes."""
    return consuming()


def test_after_a_pause_one_event_is_handled_before_the_others(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a service that was resumed, with messages in its queue
    caplog.set_level(logging.INFO)
    pause_and_resume(loop)
    loop.deliver(*(f"event-{n}" for n in range(5)))
    loop.turn()

    # Then one event is handled alone
    assert only(loop.jobs).event_ids == {"event-0"}
    loop.jobs.pop().finish()

    # And the others follow together
    assert len(only(loop.jobs).deliveries) == 4
    assert "canary handled after a pause" in caplog.messages


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.PARK])
def test_a_canary_that_fails_pauses_the_service_again(loop: EventLoop, verdict: Verdict) -> None:
    # Given a service that was resumed, with messages in its queue
    pause_and_resume(loop, BY_WORKER)
    loop.deliver(*(f"event-{n}" for n in range(5)))
    loop.turn()

    # When the handler fails with the first event
    fail(loop, bug(verdict))

    # Then the service is paused again, and only that event was attempted
    assert not loop.task_consumer.is_consuming
    assert loop.jobs == []
    assert len(loop.channel.requeued) == 4
    assert len(loop.copies) == 1
    failure = "the first event after the pause failed: KeyError in shop/handlers.py:reserve"
    assert only(loop.reads).reason == failure


@pytest.mark.parametrize(
    "error",
    [InvalidEvent("undecodable"), WorkerLostError("killed"), slow()],
    ids=["invalid", "crash", "slow"],
)
def test_a_message_at_fault_is_followed_by_another_canary(
    loop: EventLoop, error: Exception
) -> None:
    # Given a service that was resumed
    pause_and_resume(loop)
    loop.deliver(*(f"event-{n}" for n in range(3)))
    loop.turn()

    # When the first message is itself at fault
    fail(loop, error)

    # Then the next one is handled alone
    assert loop.task_consumer.is_consuming
    assert len(only(loop.jobs).deliveries) == 1


def test_a_duplicate_is_followed_by_another_canary(loop: EventLoop) -> None:
    pause_and_resume(loop)
    loop.deliver(*(f"event-{n}" for n in range(3)))
    loop.turn()

    loop.jobs.pop().finish(Outcome.DUPLICATE)

    assert only(loop.jobs).event_ids == {"event-1"}


def test_a_batch_of_the_time_before_the_pause_is_not_the_canary(loop: EventLoop) -> None:
    # Given a batch that is still running when the service is resumed
    loop.deliver("before")
    loop.turn()
    pause_and_resume(loop)
    loop.deliver("event-1", "event-2")
    loop.turn()

    # When it ends
    loop.jobs.pop().finish()

    # Then one event is handled alone
    assert only(loop.jobs).event_ids == {"event-1"}


def test_a_probe_of_the_time_before_the_pause_is_not_the_canary(loop: EventLoop) -> None:
    # Given a message that probes the database and is still running when the service is resumed
    loop.deliver("before")
    loop.turn()
    fail(loop, outage())
    loop.wait(10.0)
    pause_and_resume(loop)
    loop.deliver("event-1", "event-2")
    loop.turn()

    # When it ends
    loop.jobs.pop().finish()

    # Then one event is handled alone
    assert only(loop.jobs).event_ids == {"event-1"}


def test_an_outage_during_the_canary_is_not_its_failure(loop: EventLoop) -> None:
    # Given a service that was resumed while its database is down
    pause_and_resume(loop)
    loop.deliver("event-1", "event-2")
    loop.turn()
    fail(loop, outage())
    assert loop.pause.reason

    # When the database is back, and the handler fails
    loop.wait(10.0)
    fail(loop, bug())

    # Then the service is paused again
    assert not loop.task_consumer.is_consuming
    assert len(loop.copies) == 1


def test_a_canary_outlives_a_connection(loop: EventLoop) -> None:
    # Given a canary whose connection is lost
    pause_and_resume(loop)
    loop.deliver("event-1", "event-2")
    loop.turn()
    lost = loop.jobs.pop()
    loop.reconnect()
    connect(loop)
    lost.finish()

    # When the messages return on the next connection
    loop.deliver("event-1", "event-2")
    loop.turn()

    # Then one of them is handled alone
    assert only(loop.jobs).event_ids == {"event-1"}


@pytest.mark.parametrize(
    ("ended_seconds", "together"), [(1.0, 1), (CANARY_WINDOW - 1, 1), (CANARY_WINDOW + 1, 5)]
)
def test_a_worker_that_starts_soon_after_a_pause_has_a_canary(
    ended_seconds: float, together: int
) -> None:
    # Given a worker whose first read finds a pause that has ended
    loop = EventLoop(1, parking_burst_limit=LIMIT)
    connect(loop)
    read(loop, replace(BY_WORKER, ended_seconds=ended_seconds))

    # When there are messages in its queue
    assert loop.task_consumer.is_consuming
    loop.deliver(*(f"event-{n}" for n in range(5)))
    loop.turn()

    # Then the first is handled alone, unless the pause ended long ago
    assert len(only(loop.jobs).deliveries) == together


def test_a_worker_that_starts_after_a_pause_pauses_the_service_again() -> None:
    # Given a worker that starts after a pause
    loop = EventLoop(1, parking_burst_limit=LIMIT)
    connect(loop)
    read(loop, replace(BY_OPERATOR, ended_seconds=5.0))
    loop.deliver(*(f"event-{n}" for n in range(5)))
    loop.turn()

    # When the handler fails with the first event
    fail(loop, bug())

    # Then the service is paused, and only that event was attempted
    assert not loop.task_consumer.is_consuming
    assert (len(loop.copies), len(loop.channel.requeued)) == (1, 4)


def test_a_pause_that_has_ended_is_a_canary_only_once(loop: EventLoop) -> None:
    # Given a worker that consumes, and reads the last pause again and again
    for _ in range(3):
        read(loop, replace(BY_OPERATOR, ended_seconds=5.0))

    # When messages arrive
    loop.deliver(*(f"event-{n}" for n in range(5)))
    loop.turn()

    # Then they are handled together
    assert len(only(loop.jobs).deliveries) == 5


def test_a_worker_without_canary_resumes_with_all_messages(loop: EventLoop) -> None:
    decision = Decision(has_canary=False)
    decision.learn(BY_OPERATOR)
    decision.learn(None)
    assert not decision.needs_canary

    decision = Decision(has_canary=False)
    decision.learn(replace(BY_OPERATOR, ended_seconds=1.0))
    assert not decision.needs_canary
