"""The pause: an outage charges no attempt, one message probes it, and it ends automatically."""

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.telemetry.metrics import PAUSED
from eventbus.worker.pause import HOLD_LIMIT, LONGEST_WAIT, SLOW_IN_A_ROW
from testkit.processes.event_loop import EventLoop, outage, slow

EVENTS = [f"event-{n}" for n in range(1, 251)]


@pytest.fixture
def loop() -> EventLoop:
    """A worker with more messages than its children can take."""
    loop = EventLoop()
    loop.deliver(*EVENTS)
    loop.turn()
    return loop


def paused(loop: EventLoop) -> EventLoop:
    """Fail every running batch with an outage."""
    while loop.jobs:
        loop.jobs.pop().fail(outage())
        loop.turn()
    return loop


def test_an_outage_pauses_without_a_copy_of_any_message(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    paused(loop)

    # One log line for both batches, and no attempt.
    assert caplog.messages == ["consumption paused"]
    assert (loop.copies, loop.jobs) == ([], [])
    assert loop.channel.waiting == set(range(1, 251))
    assert _shown() == [("the database cannot be reached", 1.0)]


def test_one_message_at_a_time_probes_an_outage(loop: EventLoop) -> None:
    paused(loop)

    probes = set()
    for _ in range(10):
        loop.wait(LONGEST_WAIT)
        (canary,) = loop.jobs
        probes |= canary.event_ids
        loop.jobs.clear()
        canary.fail(outage())
        loop.turn()

    # Each time another one, because one of them may itself be the cause.
    assert len(probes) == 10
    assert loop.copies == []


def test_no_canary_runs_before_its_time(loop: EventLoop) -> None:
    paused(loop)

    loop.wait(0.1)

    assert loop.jobs == []


def test_a_successful_canary_resumes_consumption(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a paused worker whose canary is under way
    caplog.set_level(logging.INFO)
    paused(loop)
    loop.wait(LONGEST_WAIT)

    # When all messages are handled
    while loop.jobs:
        loop.jobs.pop(0).finish()
        loop.wait(1)

    # Then each message is handled, once
    assert loop.channel.waiting == set()
    assert caplog.messages == ["consumption paused", "consumption resumed"]
    assert _shown() == []


def test_a_canary_with_its_own_error_resumes_consumption(loop: EventLoop) -> None:
    paused(loop)
    loop.wait(LONGEST_WAIT)

    (canary,) = loop.jobs
    loop.jobs.clear()
    canary.fail(ValueError("broken"))
    loop.turn()

    assert loop.pause.reason is None
    assert [copy.routing_key for copy in loop.copies] == ["1s"]
    assert len(loop.jobs) == 2


def test_consecutive_slow_messages_pause_consumption(loop: EventLoop) -> None:
    # Given a batch that is too slow, so its messages are handled alone
    loop.jobs.pop().fail(slow())
    loop.jobs.pop().fail(slow())
    loop.turn()

    # When all of them are too slow
    for _ in range(10):
        loop.wait(LONGEST_WAIT)
        while loop.jobs:
            loop.jobs.pop(0).fail(slow())
            loop.turn()

    # Then only the first few were charged with an attempt
    assert len(loop.copies) < SLOW_IN_A_ROW
    assert loop.pause.reason == "handlers are too slow: OperationalError"


def test_a_single_slow_message_is_retried(loop: EventLoop) -> None:
    # Given repeatedly one slow message among fast ones
    for n in range(10):
        while loop.jobs:
            loop.jobs.pop(0).finish()
            loop.turn()
        loop.deliver(f"slow-{n}")
        loop.turn()
        (job,) = loop.jobs
        loop.jobs.clear()
        job.fail(slow())
        loop.turn()
        loop.deliver(f"good-{n}")
        loop.turn()

    assert loop.pause.reason is None
    assert len(loop.copies) == 10


def test_a_message_that_was_slow_is_not_the_next_canary(loop: EventLoop) -> None:
    # Given a pause because of slow messages
    loop.jobs.pop().fail(slow())
    loop.jobs.pop().fail(slow())
    loop.turn()
    seen: list[str] = []
    for _ in range(8):
        loop.wait(LONGEST_WAIT)
        while loop.jobs:
            job = loop.jobs.pop(0)
            seen += job.event_ids
            job.fail(slow())
            loop.turn()

    assert len(seen) == len(set(seen))


def test_a_pause_outlives_its_connection(loop: EventLoop) -> None:
    paused(loop)

    loop.reconnect()
    loop.deliver(*EVENTS)
    loop.turn()

    assert loop.jobs == []
    loop.wait(LONGEST_WAIT)
    assert [len(job.deliveries) for job in loop.jobs] == [1]


def test_messages_held_too_long_return_to_their_queue(loop: EventLoop) -> None:
    paused(loop)

    with pytest.raises(ConnectionResetError):
        loop.wait(HOLD_LIMIT)

    # And again after the same time
    loop.reconnect()
    loop.deliver(*EVENTS)
    loop.turn()
    loop.wait(HOLD_LIMIT / 2)
    while loop.jobs:
        loop.jobs.pop().fail(outage())
        loop.turn()
    with pytest.raises(ConnectionResetError):
        loop.wait(HOLD_LIMIT / 2)


@given(st.lists(st.sampled_from(["outage", "slow"]), min_size=1, max_size=30))
def test_a_series_of_outages_charges_only_a_few_attempts(failures: list[str]) -> None:
    loop = EventLoop()
    loop.deliver(*EVENTS)
    loop.turn()
    for failure in failures:
        loop.wait(LONGEST_WAIT)
        while loop.jobs:
            loop.jobs.pop(0).fail(outage() if failure == "outage" else slow())
            loop.turn()

    assert len(loop.copies) < SLOW_IN_A_ROW
    loop.pause.end()


def _shown() -> list[tuple[str, float]]:
    (metric,) = PAUSED.collect()
    return [(sample.labels["reason"], sample.value) for sample in metric.samples]
