"""A service that parks in sequence records an event before it is parked, and charges no waits."""

import logging

import pytest
from billiard.exceptions import WorkerLostError

from eventbus.consumer.cause import Cause, Verdict
from eventbus.consumer.failure import Failure
from eventbus.consumer.poison import SUSPECT_FROM
from eventbus.consumer.receive import Outcome, Result
from eventbus.errors import WaitsBehind
from testkit.processes.event_loop import EventLoop, outage, slow

#: The header of a message at its last attempt.
LAST = {"retries": 2}


@pytest.fixture
def loop() -> EventLoop:
    """A worker of a service that parks in sequence, with two children."""
    return EventLoop(parks_in_sequence=True)


def crash(loop: EventLoop) -> None:
    """Deliver a message at its last attempt, and end its child."""
    loop.deliver("crashing", **LAST)
    loop.turn()
    loop.jobs[-1].fail(WorkerLostError("killed"))
    loop.turn()


def routing_keys(loop: EventLoop) -> list[str]:
    """Return the routing keys of the copies that were published."""
    return [copy.routing_key for copy in loop.copies]


def test_a_crash_is_recorded_before_its_event_is_parked(loop: EventLoop) -> None:
    # When the last attempt at an event ends its child, and another event arrives
    crash(loop)
    loop.deliver("next")
    loop.turn()

    # Then the record comes first: nothing is parked, and no event is sent to the idle child
    (record,) = loop.records
    assert record.event_ids == {"crashing"}
    assert (routing_keys(loop), len(loop.jobs)) == ([], 1)

    # And once it is committed, the event is parked, and the next one is sent
    record.record()
    loop.turn()
    assert routing_keys(loop) == ["parked"]
    assert loop.jobs[-1].event_ids == {"next"}


def test_nothing_is_sent_until_all_events_are_recorded(loop: EventLoop) -> None:
    # Given two events that have ended both children, each at its last attempt
    loop.deliver("one", "two", **LAST, **{"x-delivery-count": SUSPECT_FROM})
    loop.turn()
    for job in list(loop.jobs):
        job.fail(WorkerLostError("killed"))
    loop.deliver("next")
    loop.turn()

    # When one of them is recorded
    loop.records[0].record()
    loop.turn()

    # Then the next event is sent only after the record of the other
    assert (len(loop.records), len(loop.jobs)) == (2, 2)
    loop.records[1].record()
    loop.turn()
    assert routing_keys(loop) == ["parked", "parked"]
    assert loop.jobs[-1].event_ids == {"next"}


def test_an_event_is_not_parked_while_it_cannot_be_recorded(loop: EventLoop) -> None:
    crash(loop)

    # When the database is down
    loop.records[0].fail(outage())
    loop.turn()

    # Then the event is held, and is the next one after the outage
    assert routing_keys(loop) == []
    assert loop.pause.reason == "a parked event cannot be recorded"
    loop.wait(30)
    assert loop.jobs[-1].event_ids == {"crashing"}


def test_a_failure_is_counted_once_it_is_recorded(
    loop: EventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a failure that is not recorded at first, so the event is handled again
    counted: list[Cause] = []
    monkeypatch.setattr(loop.observation, "failed", lambda _inbound, cause: counted.append(cause))
    crash(loop)
    loop.records[0].fail(outage())
    loop.turn()
    assert counted == []
    loop.wait(30)

    # When it fails again, and is recorded
    loop.jobs[-1].fail(WorkerLostError("killed"))
    loop.turn()
    loop.records[1].record()
    loop.turn()

    # Then one failure is counted
    assert len(counted) == 1


def test_an_event_that_was_too_slow_is_recorded_as_well(loop: EventLoop) -> None:
    loop.deliver("slow", **LAST)
    loop.turn()

    loop.jobs[-1].fail(slow())
    loop.turn()

    assert [job.event_ids for job in loop.records] == [{"slow"}]


def test_a_record_of_a_closed_connection_parks_nothing(loop: EventLoop) -> None:
    crash(loop)
    loop.reconnect()

    loop.records[0].record()
    loop.turn()

    assert routing_keys(loop) == []


@pytest.mark.parametrize("headers", [LAST, {}], ids=["last attempt", "first attempt"])
def test_other_services_record_nothing(headers: dict[str, int]) -> None:
    loop = EventLoop(parks_in_sequence=not headers)
    loop.deliver("crashing", **headers)
    loop.turn()

    loop.jobs[-1].fail(WorkerLostError("killed"))
    loop.turn()

    assert (len(loop.records), len(loop.copies)) == (0, 1)


def test_an_event_that_waits_is_parked_without_a_charge(
    loop: EventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a worker that pauses its service after one parked event
    loop = EventLoop(parks_in_sequence=True, parking_burst_limit=1)
    loop.deliver("later", **_failed_once())
    loop.turn()

    # When the event waits behind a parked one
    with caplog.at_level(logging.INFO):
        error = WaitsBehind("waits behind event first")
        loop.jobs[-1]._done([Result(Outcome.WAITING, error)])
        loop.turn()

    # Then it is parked with the reason, its attempt is not counted, and the service continues
    (copy,) = loop.copies
    failure = Failure.from_headers(copy.message.headers)
    assert failure
    assert (failure.exception, failure.text) == ("WaitsBehind", "waits behind event first")
    assert failure.attempts == 1
    assert loop.app.decision.unstored is None
    (record,) = [r for r in caplog.records if r.message == "event not handled"]
    assert (record.levelname, record.outcome) == ("INFO", "waiting")  # type: ignore[attr-defined]


def _failed_once() -> dict[str, str | int]:
    cause = Cause(Verdict.RETRY, "KeyError", "a bug")
    return Failure.of(cause, service="inventory", release="r1", headers={}).to_headers()
