"""Batches: a child receives all waiting messages, and another child those beyond the limit."""

import pytest

from eventbus.consumer.prefetch import BATCH_LIMIT
from eventbus.consumer.task_run import request_of
from eventbus.messaging.event_message import task_headers
from eventbus.telemetry.metrics import observe_handler
from eventbus.worker import waiting_messages
from testkit.eventually import eventually
from testkit.processes.event_loop import EventLoop


@pytest.fixture
def loop() -> EventLoop:
    """A worker whose children are idle."""
    return EventLoop()


def arrive(loop: EventLoop, count: int) -> None:
    """Deliver a number of messages, and run the event loop once."""
    loop.deliver(*(f"event-{loop.channel.delivered + n}" for n in range(count)))
    loop.turn()


def sizes(loop: EventLoop) -> list[int]:
    """Return the number of messages of each batch."""
    return [len(job.deliveries) for job in loop.jobs]


def test_messages_that_arrive_during_a_batch_form_the_next_one(loop: EventLoop) -> None:
    arrive(loop, 1)
    arrive(loop, 3)
    arrive(loop, 4)
    assert sizes(loop) == [1]

    loop.jobs[0].finish()

    assert sizes(loop) == [1, 7]


def test_more_messages_than_a_batch_go_to_two_children(loop: EventLoop) -> None:
    arrive(loop, 1)

    arrive(loop, BATCH_LIMIT + 1)

    assert sizes(loop) == [1, BATCH_LIMIT]


def test_messages_behind_a_slow_batch_go_to_another_child(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrive(loop, 1)
    arrive(loop, 2)
    monkeypatch.setattr(waiting_messages, "PATIENCE", 0.0)

    loop.wait(0.05)

    assert sizes(loop) == [1, 2]


def test_the_messages_of_a_failed_batch_are_handled_one_by_one(loop: EventLoop) -> None:
    arrive(loop, 5)

    loop.jobs[0].fail(RuntimeError("broken"))
    for number in range(1, 6):
        loop.jobs[number].finish()

    assert sizes(loop) == [5, 1, 1, 1, 1, 1]
    assert loop.channel.waiting == set()


def test_a_failed_observation_does_not_delay_acknowledgements(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given metrics that always raise
    def broken(*_: object) -> None:
        raise ValueError("no such bucket")

    monkeypatch.setattr("eventbus.worker.observation.metrics.observe_handler", broken)
    assert observe_handler is not broken

    # When a batch ends, and more messages are waiting
    arrive(loop, 3)
    arrive(loop, 2)
    loop.jobs[0].finish()

    # Then it is acknowledged, and the next batch has started
    assert loop.channel.waiting == {4, 5}
    assert sizes(loop) == [3, 2]
    assert "observation failed" in caplog.messages


def test_a_child_gets_only_headers_that_it_cannot_derive(
    loop: EventLoop,
) -> None:
    # Given a first and a repeated message of a relay, and one with a custom header
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
    # Given two messages that were redelivered several times, among others
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


def test_messages_gather_for_the_batch_interval() -> None:
    # Given a batch that has just started and ended
    loop = EventLoop(batch_interval=60.0)
    arrive(loop, 1)
    loop.jobs[0].finish()

    # When more arrive within the interval
    arrive(loop, 2)
    arrive(loop, 3)

    # Then they wait, although a child is idle, and form one batch after the interval
    assert sizes(loop) == [1]
    loop.life.batches._waiting._next = 0.0
    loop.wait(60.0)
    assert sizes(loop) == [1, 5]


def test_a_full_batch_does_not_wait_for_the_interval() -> None:
    loop = EventLoop(batch_interval=60.0)
    arrive(loop, 1)
    loop.jobs[0].finish()

    arrive(loop, BATCH_LIMIT)

    assert sizes(loop) == [1, BATCH_LIMIT]


def test_a_single_message_does_not_wait_for_the_interval() -> None:
    loop = EventLoop(batch_interval=0.001)
    arrive(loop, 1)
    loop.jobs[0].finish()

    def has_passed() -> None:
        assert not loop.life.batches._waiting.gathering()

    eventually(has_passed)

    arrive(loop, 1)

    assert sizes(loop) == [1, 1]
