"""A connection's life: what it has delivered is settled on it, and ends with it."""

from typing import Any
from unittest.mock import patch

import pytest
from billiard.exceptions import WorkerLostError
from celery.bootsteps import CLOSE
from hypothesis import given
from hypothesis import strategies as st

from eventbus.worker import micro_batches
from eventbus.worker.micro_batches import BATCH_LIMIT
from eventbus.worker.pause import LONGEST_WAIT
from testkit.processes.event_loop import EventLoop, outage


def ids(first: int, last: int) -> list[str]:
    return [f"event-{n}" for n in range(first, last + 1)]


def test_a_batch_that_outlives_its_connection_settles_nothing_on_the_next() -> None:
    # Given a batch that runs while its connection is lost, and the same messages on the next one
    loop = EventLoop()
    loop.deliver(*ids(1, 100))
    loop.turn()
    new = loop.reconnect()
    loop.deliver(*ids(1, 300))
    loop.turn()
    old, first, second = loop.jobs

    # When the old batch ends, and of the new ones the second before the first
    old.finish()
    second.finish()
    loop.turn()

    # Then the broker still waits for all that is not committed on the new connection
    assert new.waiting == set(range(1, 101)) | set(range(201, 301))
    first.finish()
    loop.turn()
    assert new.waiting == set(range(201, 301))


def test_every_delivery_is_acknowledged_after_a_reconnect() -> None:
    # Given as many deliveries as the broker sends, and all of them again on another connection
    loop = EventLoop()
    loop.deliver(*ids(1, 400))
    loop.turn()
    new = loop.reconnect()
    loop.deliver(*ids(1, 400))
    loop.turn()

    # When all that is in the pool ends
    while loop.jobs:
        loop.jobs.pop(0).finish()
        loop.turn()

    # Then nothing is left that the broker would wait for
    assert new.waiting == set()


def test_what_waited_on_a_lost_connection_is_not_handled() -> None:
    # Given more than the children can take
    loop = EventLoop()
    loop.deliver(*ids(1, 400))
    loop.turn()
    loop.reconnect()

    # When the running batches end
    for job in list(loop.jobs):
        job.finish()
        loop.turn()

    # Then no other one of that connection has begun
    assert [len(job.deliveries) for job in loop.jobs] == [BATCH_LIMIT, BATCH_LIMIT]


def test_a_failure_on_a_lost_connection_is_neither_retried_nor_parked() -> None:
    # Given an event that fails after its connection was lost, and one whose copy is on its way
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


def test_nothing_is_sent_by_a_life_that_has_ended() -> None:
    # Given a batch that runs while its life ends, on a channel that would still take frames
    loop = EventLoop()
    loop.deliver(*ids(1, 3))
    loop.turn()
    loop.life.close()

    # When the batch ends
    loop.jobs.pop().finish()
    loop.turn()

    # Then no frame is sent
    assert (loop.channel.frames, loop.channel.waiting) == (0, {1, 2, 3})


def test_a_failure_is_not_copied_if_its_connection_ends_before_the_next_turn() -> None:
    # Given a failure that is to be settled at the event loop's next turn
    loop = EventLoop()
    loop.deliver("event-1")
    loop.turn()
    loop.jobs.pop().fail(ValueError("broken"))

    # When the connection is lost
    loop.reconnect()
    loop.turn()

    # Then no copy is published
    assert loop.copies == []


def test_what_arrived_just_before_the_loss_is_not_handled() -> None:
    # Given messages that are to be sent to a child at the event loop's next turn
    loop = EventLoop()
    loop.deliver(*ids(1, 3))

    # When the connection is lost
    loop.reconnect()
    loop.turn()

    # Then no job has started
    assert loop.jobs == []


@pytest.mark.parametrize("error", [ValueError("broken"), outage()], ids=["failure", "outage"])
def test_a_batch_that_fails_after_its_connection_is_not_handled_again(error: Exception) -> None:
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


def test_children_that_are_killed_by_a_stopping_worker_charge_nothing() -> None:
    loop = EventLoop()
    loop.deliver("event-1")
    loop.turn()
    loop.blueprint.state = CLOSE

    loop.jobs.pop().fail(WorkerLostError("terminated"))
    loop.turn()

    assert (loop.copies, loop.channel.waiting) == ([], {1})


def test_a_crash_of_a_child_sends_its_message_through_the_tiers() -> None:
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
def test_nothing_is_acknowledged_before_its_own_commit(data: Any) -> None:
    # What is dispatched must not depend on the time that an example takes.
    with patch.object(micro_batches, "PATIENCE", -1.0):
        _run_any_life(data)


def _run_any_life(data: Any) -> None:
    # Given connections that are lost at any moment, and batches that end in any order
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
            # the broker delivers again what it was not told of, with new tags
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
        # a confirmed copy stands for its original
        committed |= {
            delivered[copy.done.args[0].message.delivery_tag]  # type: ignore[attr-defined]
            for copy in loop.copies
            if copy.is_wanted()
        }
        loop.confirm()

        # Then the broker waits for each that is not committed
        settled = {e for tag, e in delivered.items() if tag not in loop.channel.waiting}
        assert settled <= committed

    # And when all has ended, for none
    while loop.jobs:
        loop.jobs.pop().finish()
        loop.wait(1)
    assert loop.channel.waiting == set()
