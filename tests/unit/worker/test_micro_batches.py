"""Batches: one child gets all that arrived, another one what is too much for it or too slow."""

import pytest

from eventbus.consumer.task_run import request_of
from eventbus.messaging.event_message import task_headers
from eventbus.telemetry.metrics import observe_handler
from eventbus.worker import micro_batches
from eventbus.worker.micro_batches import BATCH_LIMIT
from testkit.eventually import eventually
from testkit.processes.event_loop import EventLoop


@pytest.fixture
def loop() -> EventLoop:
    """A worker whose children are idle."""
    return EventLoop()


def arrive(loop: EventLoop, count: int) -> None:
    """Let so many messages arrive, and the event loop turn once."""
    loop.deliver(*(f"event-{loop.channel.delivered + n}" for n in range(count)))
    loop.turn()


def sizes(loop: EventLoop) -> list[int]:
    """How many messages each batch had."""
    return [len(job.deliveries) for job in loop.jobs]


def test_messages_that_arrive_while_a_batch_runs_are_the_next_batch(loop: EventLoop) -> None:
    arrive(loop, 1)
    arrive(loop, 3)
    arrive(loop, 4)
    assert sizes(loop) == [1]

    loop.jobs[0].finish()

    assert sizes(loop) == [1, 7]


def test_more_than_a_batch_is_work_for_two(loop: EventLoop) -> None:
    arrive(loop, 1)

    arrive(loop, BATCH_LIMIT + 1)

    assert sizes(loop) == [1, BATCH_LIMIT]


def test_a_slow_batch_keeps_nothing_to_itself(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(loop, 1)
    arrive(loop, 2)
    monkeypatch.setattr(micro_batches, "PATIENCE", 0.0)

    loop.wait(0.05)

    assert sizes(loop) == [1, 2]


def test_the_messages_of_a_failed_batch_are_handled_one_by_one(loop: EventLoop) -> None:
    arrive(loop, 5)

    loop.jobs[0].fail(RuntimeError("broken"))
    for number in range(1, 6):
        loop.jobs[number].finish()

    assert sizes(loop) == [5, 1, 1, 1, 1, 1]
    assert loop.channel.waiting == set()


def test_an_observer_that_fails_keeps_no_message_from_its_ack(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given metrics that raise, whatever they are told
    def broken(*_: object) -> None:
        raise ValueError("no such bucket")

    monkeypatch.setattr("eventbus.worker.observation.metrics.observe_handler", broken)
    assert observe_handler is not broken

    # When a batch ends, and another one arrives behind it
    arrive(loop, 3)
    arrive(loop, 2)
    loop.jobs[0].finish()

    # Then it is acknowledged, and the next one has begun
    assert loop.channel.waiting == {4, 5}
    assert sizes(loop) == [3, 2]
    assert "observation failed" in caplog.messages


def test_a_child_gets_the_headers_of_a_message_unless_it_can_make_them_itself(
    loop: EventLoop,
) -> None:
    # Given messages as a relay publishes them, first and again, and one with a team's own header
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    loop.deliver("first", **task_headers("first", "order.created", trace))
    loop.deliver("again", **task_headers("again", "order.created", None, retries=2))
    loop.deliver("own", **task_headers("own", "order.created", trace), tenant="north")
    loop.turn()

    # Then each request has the headers of its message
    first, again, own = loop.jobs[0].deliveries
    assert (first.headers, again.headers) == (None, None)
    assert own.headers["tenant"] == "north"
    assert request_of(first).traceparent == request_of(own).traceparent == trace
    assert (request_of(first).retries, request_of(again).retries) == (0, 2)
    assert request_of(first).headers == {"traceparent": trace}
    assert request_of(own).headers == {"traceparent": trace, "tenant": "north"}


def test_a_suspect_is_handled_alone_and_marked(loop: EventLoop) -> None:
    # Given two messages that came back with their connection several times, among others
    loop.deliver("event-1", "event-2")
    loop.deliver("suspect-1", "suspect-2", **{"x-delivery-count": 2})
    loop.deliver("once", **{"x-delivery-count": 1})
    loop.turn()
    loop.jobs[0].finish()
    loop.jobs[1].finish()

    # Then each suspect is a batch by itself
    batches = [(sorted(job.event_ids), job.deliveries[0].is_suspect) for job in loop.jobs]
    assert sorted(batches[:2]) == [(["suspect-1"], True), (["suspect-2"], True)]
    assert batches[2] == (["event-1", "event-2", "once"], False)


def test_messages_of_a_service_that_no_order_waits_for_gather_for_an_interval() -> None:
    # Given a batch that has just begun, and ended
    loop = EventLoop(batch_interval=60.0)
    arrive(loop, 1)
    loop.jobs[0].finish()

    # When more arrive within the interval
    arrive(loop, 2)
    arrive(loop, 3)

    # Then they wait, although a child is idle, and are one batch when it has passed
    assert sizes(loop) == [1]
    loop.life.batches._next = 0.0
    loop.wait(60.0)
    assert sizes(loop) == [1, 5]


def test_full_batch_waits_for_no_interval() -> None:
    loop = EventLoop(batch_interval=60.0)
    arrive(loop, 1)
    loop.jobs[0].finish()

    arrive(loop, BATCH_LIMIT)

    assert sizes(loop) == [1, BATCH_LIMIT]


def test_message_that_arrives_alone_waits_for_no_interval() -> None:
    loop = EventLoop(batch_interval=0.001)
    arrive(loop, 1)
    loop.jobs[0].finish()

    def has_passed() -> None:
        assert not loop.life.batches._is_gathering()

    eventually(has_passed)

    arrive(loop, 1)

    assert sizes(loop) == [1, 1]
