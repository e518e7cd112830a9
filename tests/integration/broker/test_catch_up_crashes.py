"""Catch-up resumes after a crash or a lost connection."""

import pytest

from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.copies import Copies
from eventbus.catch_up.overflow import Overflow
from testkit.data.catching_up import catch_up, record
from testkit.data.dropping import Subscriber, created, publish
from testkit.eventually import eventually
from testkit.processes.publishers import PublisherOf


def test_a_killed_process_resumes_where_it_stopped(
    fraud: Subscriber,
    process: CatchUp,
    publisher_of: PublisherOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given some batches, the last of which is confirmed but not recorded
    publish(publisher_of(), *(created(n) for n in range(1, 41)))
    process.step()
    fraud.handle()
    assert process.step()
    before = record(fraud).position

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Overflow, "advance", die)
        process.step()
    process.close()
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
    publish(publisher_of(), *(created(n) for n in range(1, 41)))
    process.step()
    fraud.handle()
    assert process.step()
    before = record(fraud).position

    def lose(*_: object) -> None:
        raise ConnectionResetError

    with monkeypatch.context() as patch, pytest.raises(ConnectionResetError):
        patch.setattr(Copies, "put", lose)
        process.step()
    process.close()
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

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Overflow, "request", die)
        process.step()
    process.close()

    # When a new process catches up
    again = fraud.catch_up()
    eventually(lambda: again.step() or _require_request(fraud))
    catch_up(fraud, again)
    again.close()

    # Then each event had one effect
    assert fraud.effects == dict.fromkeys(range(1, 21), 1)


def _require_request(fraud: Subscriber) -> None:
    assert record(fraud).requested_at is not None
