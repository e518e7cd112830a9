"""A worker whose handlers fail too often pauses its service."""

import pytest
from billiard.exceptions import WorkerLostError

from eventbus.consumer.cause import Verdict
from eventbus.consumer.receive import Outcome, Result
from eventbus.errors import CrashedTooOften, InvalidEvent
from eventbus.telemetry import metrics
from testkit.processes.event_loop import EventLoop, outage, slow
from testkit.processes.service_pause import (
    BY_OPERATOR,
    BY_WORKER,
    LIMIT,
    REASON,
    bug,
    connect,
    consuming,
    fail,
    only,
    park,
    read,
)


@pytest.fixture
def loop() -> EventLoop:
    """A worker that consumes."""
    return consuming()


def test_a_burst_stops_the_worker_and_stores_the_pause(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker with waiting messages
    loop.deliver("first", retries=2)
    loop.turn()
    loop.deliver(*(f"event-{n}" for n in range(5)))

    # When the limit is reached
    fail(loop, bug())
    loop.jobs.pop().fail(bug())
    fail(loop, bug(Verdict.PARK))
    assert loop.task_consumer.is_consuming
    fail(loop, bug(Verdict.PARK))

    # Then the worker has stopped, and the other messages are back in the queue
    assert not loop.task_consumer.is_consuming
    assert loop.channel.requeued == [4, 5, 6]
    assert loop.jobs == []
    assert loop.app.decision.state == "ready, paused after failures"
    assert metrics.own_pause().collect()[0].samples[0].value == 1  # type: ignore[index]

    # And a child stores the pause with the reason
    assert only(loop.reads).reason == REASON
    read(loop, BY_WORKER)
    assert loop.app.decision.pause == BY_WORKER
    assert caplog.messages.count("consumption stopped after failures") == 1


def test_retries_are_not_a_burst(loop: EventLoop) -> None:
    for _ in range(3 * LIMIT):
        loop.deliver("event")
        loop.turn()
        fail(loop, bug())

    assert loop.task_consumer.is_consuming


def test_handled_events_and_duplicates_count_against_a_burst(loop: EventLoop) -> None:
    # Given as many handled events and duplicates as the limit, and one more
    for outcome in (Outcome.HANDLED, Outcome.HANDLED, Outcome.DUPLICATE, Outcome.DUPLICATE):
        loop.deliver("event")
        loop.turn()
        loop.jobs.pop().finish(outcome)

    park(loop, LIMIT)

    assert loop.task_consumer.is_consuming


@pytest.mark.parametrize(
    "error",
    [
        InvalidEvent("undecodable"),
        CrashedTooOften("its worker died 10 times"),
        WorkerLostError("killed"),
        slow(),
    ],
    ids=["invalid", "suspect", "crash", "slow"],
)
def test_messages_at_fault_are_not_a_burst(loop: EventLoop, error: Exception) -> None:
    for number in range(3 * LIMIT):
        loop.deliver(f"event-{number % 2}", retries=2)
        loop.turn()
        fail(loop, error)

    assert loop.task_consumer.is_consuming


def test_invalid_events_of_a_batch_are_not_a_burst(loop: EventLoop) -> None:
    loop.deliver("first")
    loop.turn()
    loop.deliver(*(f"event-{n}" for n in range(3 * LIMIT)))
    loop.jobs.pop(0).finish()
    job = loop.jobs.pop()

    job._done([Result(Outcome.FAILED, InvalidEvent("no")) for _ in job.deliveries])
    loop.turn()

    assert loop.task_consumer.is_consuming
    assert len(loop.copies) == 3 * LIMIT


def test_a_pause_that_cannot_be_stored_is_tried_again(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker that has paused its service, and whose database is down
    park(loop, LIMIT)
    for _ in range(2):
        loop.reads.pop().fail(outage())
        loop.repeated[-1]()
        loop.turn()

    # Then it remains stopped, even on another connection, and tries again
    assert caplog.messages.count("pause not stored") == 1
    loop.reconnect()
    loop.reads.clear()
    connect(loop)
    assert loop.task_consumer.starts == 0
    assert only(loop.reads).reason == REASON


def test_a_read_in_progress_does_not_end_a_pause_that_is_not_stored(loop: EventLoop) -> None:
    # Given a read that started before the worker paused its service
    loop.repeated[-1]()
    loop.turn()
    park(loop, LIMIT)
    assert only(loop.reads).reason is None

    # When it returns that the service is not paused
    read(loop, None)

    # Then the worker remains stopped, and stores its pause at once
    assert not loop.task_consumer.is_consuming
    assert only(loop.reads).reason == REASON


def test_a_pause_by_another_worker_is_an_error_in_the_log(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    read(loop, BY_WORKER)

    assert caplog.messages == ["consumption stopped after failures"]
    assert loop.app.decision.state == "ready, paused after failures"
    read(loop, None)
    read(loop, BY_OPERATOR)
    assert loop.app.decision.state == "ready, paused by an operator"
    assert metrics.own_pause().collect()[0].samples[0].value == 0  # type: ignore[index]
