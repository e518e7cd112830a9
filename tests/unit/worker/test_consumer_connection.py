"""Messages are settled only on the connection that delivered them."""

from typing import Any
from unittest.mock import patch

import pytest
from billiard.exceptions import WorkerLostError
from celery.bootsteps import CLOSE
from hypothesis import given
from hypothesis import strategies as st

from eventbus.consumer.prefetch import BATCH_LIMIT
from eventbus.worker import waiting_messages
from eventbus.worker.pause import LONGEST_WAIT
from testkit.processes.event_loop import EventLoop, outage


def ids(first: int, last: int) -> list[str]:
    return [f"event-{n}" for n in range(first, last + 1)]


def test_a_batch_settles_nothing_on_a_later_connection() -> None:
    # Given a batch that runs while its connection is lost, and the same messages on the next one
    loop = EventLoop()
    loop.deliver(*ids(1, 100))
    loop.turn()
    new = loop.reconnect()
    loop.deliver(*ids(1, 300))
    loop.turn()
    old, first, second = loop.jobs

    # When the old batch ends, then the second and the first of the new ones
    old.finish()
    second.finish()
    loop.turn()

    # Then the broker still waits for all uncommitted deliveries of the new connection
    assert new.waiting == set(range(1, 101)) | set(range(201, 301))
    first.finish()
    loop.turn()
    assert new.waiting == set(range(201, 301))


def test_every_delivery_is_acknowledged_after_a_reconnect() -> None:
    # Given as many deliveries as the broker sends, and the same ones on another connection
    loop = EventLoop()
    loop.deliver(*ids(1, 400))
    loop.turn()
    new = loop.reconnect()
    loop.deliver(*ids(1, 400))
    loop.turn()

    # When all batches in the pool end
    while loop.jobs:
        loop.jobs.pop(0).finish()
        loop.turn()

    # Then the broker waits for no delivery
    assert new.waiting == set()


def test_waiting_messages_of_a_lost_connection_are_not_handled() -> None:
    # Given more messages than the children can take
    loop = EventLoop()
    loop.deliver(*ids(1, 400))
    loop.turn()
    loop.reconnect()

    # When the running batches end
    for job in list(loop.jobs):
        job.finish()
        loop.turn()

    # Then no other batch of that connection has started
    assert [len(job.deliveries) for job in loop.jobs] == [BATCH_LIMIT, BATCH_LIMIT]


def test_a_failure_on_a_lost_connection_is_neither_retried_nor_parked() -> None:
    # Given an event that fails after its connection is lost, and one whose copy is unconfirmed
    loop = EventLoop()
    loop.deliver("copied")
    loop.turn()
    loop.jobs.pop().fail(ValueError("broken"))
    loop.turn()
    loop.deliver("late")
    loop.turn()
    new = loop.reconnect()
    loop.deliver("copied", "late")

    # When it fails, and the broker confirms the copy
    loop.jobs.pop().fail(ValueError("broken"))
    loop.turn()
    loop.confirm()

    # Then no further copy is published, and both events are still unacknowledged
    assert loop.copies == []
    assert new.waiting == {1, 2}


def test_a_closed_consumer_sends_no_frame() -> None:
    # Given a batch that runs while its consumer closes, on a channel that still accepts frames
    loop = EventLoop()
    loop.deliver(*ids(1, 3))
    loop.turn()
    loop.life.close()

    # When the batch ends
    loop.jobs.pop().finish()
    loop.turn()

    # Then no frame is sent
    assert (loop.channel.frames, loop.channel.waiting) == (0, {1, 2, 3})


def test_a_failure_is_not_copied_after_its_connection_is_lost() -> None:
    # Given a failure that the event loop will settle in its next turn
    loop = EventLoop()
    loop.deliver("event-1")
    loop.turn()
    loop.jobs.pop().fail(ValueError("broken"))

    # When the connection is lost
    loop.reconnect()
    loop.turn()

    # Then no copy is published
    assert loop.copies == []


def test_messages_that_arrive_just_before_the_loss_are_not_handled() -> None:
    # Given messages that the event loop will send to a child in its next turn
    loop = EventLoop()
    loop.deliver(*ids(1, 3))

    # When the connection is lost
    loop.reconnect()
    loop.turn()

    # Then no job has started
    assert loop.jobs == []


@pytest.mark.parametrize("error", [ValueError("broken"), outage()], ids=["failure", "outage"])
def test_a_failed_batch_of_a_lost_connection_is_not_handled_again(error: Exception) -> None:
    # Given a batch whose connection is lost
    loop = EventLoop()
    loop.deliver(*ids(1, 3))
    loop.turn()
    loop.reconnect()

    # When it fails
    loop.jobs.pop().fail(error)
    loop.turn()
    loop.wait(LONGEST_WAIT)

    # Then it is not handled again
    assert loop.jobs == []


def test_children_killed_by_a_stopping_worker_charge_no_attempt() -> None:
    loop = EventLoop()
    loop.deliver("event-1")
    loop.turn()
    loop.blueprint.state = CLOSE

    loop.jobs.pop().fail(WorkerLostError("terminated"))
    loop.turn()

    assert (loop.copies, loop.channel.waiting) == ([], {1})


def test_the_message_of_a_crashed_child_is_retried() -> None:
    loop = EventLoop()
    loop.deliver("event-1")
    loop.turn()

    loop.jobs.pop().fail(WorkerLostError("killed"))
    loop.turn()

    (copy,) = loop.copies
    assert copy.routing_key == "1s"
    assert copy.message.headers["x-failure-exception"] == "WorkerLostError"
    loop.confirm()
    assert loop.channel.waiting == set()


@given(st.data())
def test_no_message_is_acknowledged_before_its_commit(data: Any) -> None:
    # Dispatching must not depend on the duration of an example.
    with patch.object(waiting_messages, "PATIENCE", -1.0):
        _run_any_life(data)


def _run_any_life(data: Any) -> None:
    # Given connections that are lost at any time, and batches that end in any order
    loop, committed = EventLoop(data.draw(st.integers(1, 3))), set[str]()
    delivered: dict[int, str] = {}
    number = 0
    for _ in range(data.draw(st.integers(1, 25))):
        step = data.draw(st.sampled_from(["deliver", "finish", "fail", "crash", "reconnect"]))
        if step == "deliver":
            for _ in range(data.draw(st.integers(1, 150))):
                number += 1
                delivered[loop.channel.delivered + 1] = f"event-{number}"
                loop.deliver(f"event-{number}")
        elif step == "reconnect":
            # The broker redelivers unacknowledged messages with new tags.
            again = [delivered[tag] for tag in sorted(loop.channel.waiting)]
            loop.reconnect()
            delivered = dict(enumerate(again, start=1))
            loop.deliver(*again)
        elif loop.jobs:
            job = loop.jobs.pop(data.draw(st.integers(0, len(loop.jobs) - 1)))
            if step == "finish":
                committed |= job.event_ids
                job.finish()
            else:
                job.fail(WorkerLostError("killed") if step == "crash" else ValueError("broken"))
        loop.turn()
        # A confirmed copy replaces its original.
        committed |= {
            delivered[copy.done.args[0].message.delivery_tag]  # type: ignore[attr-defined]
            for copy in loop.copies
            if copy.is_wanted()
        }
        loop.confirm()

        # Then the broker waits for each uncommitted delivery
        settled = {e for tag, e in delivered.items() if tag not in loop.channel.waiting}
        assert settled <= committed

    # And for none after all batches have ended
    while loop.jobs:
        loop.jobs.pop().finish()
        loop.wait(1)
    assert loop.channel.waiting == set()
