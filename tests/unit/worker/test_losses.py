"""A message that ends the database connection whenever it is handled does not stop its service."""

import pytest

from eventbus.worker.losses import LIMIT
from eventbus.worker.pause import LONGEST_WAIT
from testkit.processes.event_loop import EventLoop, outage

POISON = "poison"


def run(loop: EventLoop, steps: int, *, poison: str = POISON, is_down: bool = False) -> int:
    """Handle everything that is sent; the poison ends its connection. Return the number handled."""
    handled = 0
    for _ in range(steps):
        loop.wait(LONGEST_WAIT)
        while loop.jobs:
            job = loop.jobs.pop(0)
            if is_down or poison in job.event_ids:
                job.fail(outage())
            else:
                handled += len(job.deliveries)
                job.finish()
            loop.turn()
    return handled


@pytest.mark.parametrize("children", [1, 2])
def test_the_message_is_charged_and_the_others_are_handled(children: int) -> None:
    # Given a message that ends its connection, among others
    loop = EventLoop(children)
    loop.deliver(*(f"event-{n}" for n in range(50)), POISON, *(f"later-{n}" for n in range(50)))

    # When the worker runs, and others arrive
    loop.turn()
    handled = 0
    for n in range(LIMIT + 1):
        handled += run(loop, 3)
        loop.deliver(f"new-{n}")
        loop.turn()

    # Then all others are handled, and only the message is charged, with an attempt
    assert handled >= 100
    assert [copy.routing_key for copy in loop.copies] == ["1s"]
    assert loop.copies[0].message.headers["id"] == POISON
    text = loop.copies[0].message.headers["x-failure-text"]
    assert text == "the database cannot be reached, only for this message"
    assert loop.pause.reason is None


def test_after_its_last_attempt_the_message_is_parked_once_it_is_recorded() -> None:
    # Given a message in its last attempt, in a service that parks in sequence
    loop = EventLoop(parks_in_sequence=True)
    loop.deliver(POISON, retries=2)
    loop.turn()

    # When it ends its connection again and again, while others are handled
    for n in range(LIMIT + 1):
        run(loop, 2)
        loop.deliver(f"new-{n}")
        loop.turn()

    # Then it is recorded, and then parked
    assert loop.copies == []
    (record,) = loop.records
    record.record()
    loop.turn()
    assert [copy.routing_key for copy in loop.copies] == ["parked"]


def test_a_single_message_is_not_charged_during_an_outage() -> None:
    loop = EventLoop()
    loop.deliver(POISON)
    loop.turn()

    run(loop, 50)

    assert loop.copies == []


def test_an_outage_is_charged_to_no_message_regardless_of_its_duration() -> None:
    # Given many messages, and an outage
    loop = EventLoop()
    loop.deliver(*(f"event-{n}" for n in range(200)))
    loop.turn()
    run(loop, 50, is_down=True)

    # When it ends
    handled = run(loop, 250)

    # Then all messages are handled
    assert handled == 200
    assert loop.copies == []
    assert loop.channel.waiting == set()


def test_repeated_outages_are_not_charged_to_messages_that_are_handled_in_between() -> None:
    loop = EventLoop()

    for n in range(3 * LIMIT):
        loop.deliver(f"event-{n}", f"other-{n}")
        loop.turn()
        run(loop, 3, is_down=True)
        run(loop, 3)

    assert loop.copies == []
    assert loop.channel.waiting == set()


def test_messages_keep_their_sequence_through_an_outage() -> None:
    # Given messages of one child, and an outage
    loop = EventLoop(children=1)
    loop.deliver(*(f"event-{n}" for n in range(20)))
    loop.turn()
    run(loop, 5, is_down=True)

    # When it ends
    seen: list[str] = []
    for _ in range(30):
        loop.wait(LONGEST_WAIT)
        while loop.jobs:
            job = loop.jobs.pop(0)
            seen += [delivery.event_id for delivery in job.deliveries]
            job.finish()
            loop.turn()

    # Then only the message that has shown its end is handled out of sequence
    canary = seen.pop(0)
    assert sorted([canary, *seen]) == sorted(f"event-{n}" for n in range(20))
    assert seen == sorted(seen, key=lambda event_id: int(event_id.removeprefix("event-")))
