"""Catch-up resumes after a crash or a lost connection."""

import pytest

from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.copies import Copies
from eventbus.catch_up.overflow import Overflow
from testkit.data.catching_up import catch_up, record
from testkit.data.dropping import Subscriber, created, publish
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf


def catch_up_partly(fraud: Subscriber, process: CatchUp, publisher_of: PublisherOf) -> int:
    """Catch up with a part of 40 events; return the position that is recorded."""
    publish(publisher_of(), *(created(n) for n in range(1, 41)))
    process.step()
    fraud.handle()
    assert process.step()
    return int(record(fraud).position)


def interrupt(
    process: CatchUp,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    method: str,
    error: BaseException,
) -> None:
    """Run a step in which a method raises an error, and close the process."""

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch, pytest.raises(type(error)):
        patch.setattr(owner, method, fail)
        process.step()
    process.close()


def test_a_killed_process_resumes_where_it_stopped(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given some batches, the last of which is confirmed but not recorded
    before = catch_up_partly(fraud, process, publisher_of)
    interrupt(process, monkeypatch, Overflow, "advance", KeyboardInterrupt())
    assert record(fraud).position == before

    # When a new process catches up
    again = fraud.catch_up()
    catch_up(fraud, again)
    again.close()

    # Then each event had one effect
    assert fraud.effects == dict.fromkeys(range(1, 41), 1)


def test_unconfirmed_copies_are_sent_again(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a catch-up whose last copies are lost with their connection
    before = catch_up_partly(fraud, process, publisher_of)
    interrupt(process, monkeypatch, Copies, "put", ConnectionResetError())
    assert record(fraud).position == before

    # When the process catches up
    catch_up(fraud, process)

    # Then each event had one effect
    assert fraud.effects == dict.fromkeys(range(1, 41), 1)


def test_a_drop_is_recorded_before_its_marker_is_deleted(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a process that dies before it has recorded the drop
    publish(publisher_of(), *(created(n) for n in range(1, 21)))
    interrupt(process, monkeypatch, Overflow, "request", KeyboardInterrupt())

    # When a new process catches up
    again = fraud.catch_up()
    eventually(lambda: again.step() or _require_request(fraud))
    catch_up(fraud, again)
    again.close()

    # Then each event had one effect
    assert fraud.effects == dict.fromkeys(range(1, 21), 1)


def _require_request(fraud: Subscriber) -> None:
    assert record(fraud).requested_at is not None
