"""The operator's pause in a worker: what it holds, returns and finishes, and when it consumes."""

import logging

import pytest

from eventbus.consumer.prefetch import BATCH_LIMIT
from eventbus.telemetry import metrics
from eventbus.telemetry.metrics import PAUSED
from testkit.processes.event_loop import EventLoop, outage
from testkit.processes.service_pause import BY_OPERATOR, connect, read


@pytest.fixture
def loop() -> EventLoop:
    """A worker that is connected and has not read the operator's pause yet."""
    loop = EventLoop()
    connect(loop)
    return loop


def paused_seconds() -> float:
    (metric,) = metrics.operator_pause().collect()
    return metric.samples[0].value


def test_a_worker_consumes_nothing_before_its_first_read(loop: EventLoop) -> None:
    assert not loop.task_consumer.is_consuming

    read(loop, None)

    assert loop.task_consumer.is_consuming


def test_a_worker_that_starts_during_a_pause_never_consumes(loop: EventLoop) -> None:
    read(loop, BY_OPERATOR)
    assert (loop.task_consumer.starts, paused_seconds()) == (0, 90.0)

    read(loop, None)

    assert (loop.task_consumer.starts, paused_seconds()) == (1, 0.0)


def test_a_pause_returns_waiting_messages_and_finishes_running_batches(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given two batches that run, and messages that wait
    caplog.set_level(logging.INFO)
    read(loop, None)
    loop.deliver(*(f"event-{n}" for n in range(3 * BATCH_LIMIT)))
    loop.turn()
    assert len(loop.jobs) == 2

    # When an operator pauses the service
    read(loop, BY_OPERATOR)

    # Then the waiting messages are back in the queue, and the worker has no consumer
    assert loop.channel.requeued == list(range(2 * BATCH_LIMIT + 1, 3 * BATCH_LIMIT + 1))
    assert not loop.task_consumer.is_consuming

    # And one batch is acknowledged, and the messages of a batch that fails are returned
    finished, failed = loop.jobs
    finished.finish()
    failed.fail(ValueError("one of them is wrong"))
    loop.turn()
    assert (len(loop.jobs), loop.channel.waiting, loop.copies) == (2, set(), [])
    assert len(loop.channel.requeued) == 2 * BATCH_LIMIT
    assert caplog.messages[0] == "consumption stopped by operator"


def test_a_resumed_worker_handles_messages_again(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker that was paused
    caplog.set_level(logging.INFO)
    read(loop, None)
    read(loop, BY_OPERATOR)

    # When the service is resumed
    read(loop, None)
    loop.deliver("event-1")
    loop.turn()

    # Then the worker consumes and handles
    assert (loop.task_consumer.starts, len(loop.jobs)) == (2, 1)
    assert caplog.messages[-1] == "consumption started by operator"


def test_a_pause_outlives_a_connection(loop: EventLoop) -> None:
    # Given a paused worker
    read(loop, BY_OPERATOR)

    # When it reconnects
    loop.reconnect()
    connect(loop)

    # Then it does not consume, before or after the next read
    assert loop.task_consumer.starts == 0
    read(loop, BY_OPERATOR)
    assert loop.task_consumer.starts == 0


def test_a_read_that_outlives_its_connection_changes_no_consumer(loop: EventLoop) -> None:
    # Given a read in progress on a connection that ends
    read(loop, None)
    consumption = connect(loop)
    old_consumer = loop.task_consumer
    (late,) = loop.reads[-1:]
    consumption.close()

    # When it returns a pause
    late.read(BY_OPERATOR)

    # Then the old consumer ends with its connection, and the next one does not start
    assert old_consumer.is_consuming
    loop.reconnect()
    connect(loop)
    assert loop.task_consumer.starts == 0


def test_a_failed_read_keeps_the_last_decision(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    read(loop, None)

    for _ in range(2):
        loop.repeated[-1]()
        loop.turn()
        loop.reads.pop().fail(outage())

    assert loop.task_consumer.is_consuming
    assert loop.pause.reason is None
    assert caplog.messages == ["operator's pause not read"]


def test_an_outage_at_the_start_is_reported_as_a_pause_until_the_first_read(
    loop: EventLoop,
) -> None:
    loop.reads.pop().fail(outage())
    assert loop.pause.reason == "the database cannot be reached"

    read(loop, None)

    assert (loop.pause.reason, loop.task_consumer.is_consuming) == (None, True)


def test_a_pause_of_the_operator_replaces_a_pause_for_an_outage(loop: EventLoop) -> None:
    # Given a worker that probes its database with a held message
    read(loop, None)
    loop.deliver("event-1")
    loop.turn()
    loop.jobs.pop().fail(outage())
    loop.turn()
    assert loop.pause.reason

    # When an operator pauses the service
    read(loop, BY_OPERATOR)

    # Then the message is back in its queue, and nothing probes
    assert (loop.channel.waiting, loop.pause.reason) == (set(), None)
    assert PAUSED.collect()[0].samples == []  # type: ignore[index]
    loop.wait(60)
    assert loop.jobs == []


def test_reads_do_not_pile_up_behind_a_slow_one(loop: EventLoop) -> None:
    for _ in range(3):
        loop.repeated[-1]()
        loop.turn()

    assert len(loop.reads) == 1
