"""The sweep: orders past their deadline are cancelled, by the database's clock alone."""

import time
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from eventbus.database.db import Sessions, transaction
from order_app import sweep, use_cases
from order_app.domain import Line, Reason, Status
from order_app.events import Cause
from order_app.storage import intake
from order_app.sweep import Sweep
from order_app.use_cases import Placement
from testkit.eventually import eventually

PLACEMENT = Placement(
    customer_email="ann@example.com",
    currency="EUR",
    lines=(Line(sku="TEA", quantity=2, unit_price=1250),),
)


@pytest.fixture
def back(order_database: Sessions, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep that is at work for long enough."""
    monkeypatch.setattr(sweep, "RETURN", 0.0)
    made = Sweep(order_database)
    made.step(soon())
    return made


def soon() -> float:
    return time.monotonic() + 30


def place(sessions: Sessions, *, overdue: float) -> UUID:
    """Place an order that has been overdue for so many seconds; may be negative."""
    new = use_cases.new_order(PLACEMENT, deadline=timedelta(), cause=Cause())
    with transaction(sessions) as session:
        intake.write(session.connection(), [new])
        session.execute(
            text("UPDATE orders SET deadline_at = now() - :overdue WHERE id = :id"),
            {"overdue": timedelta(seconds=overdue), "id": new.order.id},
        )
    return new.order.id


def status(sessions: Sessions, order_id: UUID) -> tuple[Status, Reason | None]:
    with transaction(sessions) as session:
        order = use_cases.get(session, order_id)
    return order.status, order.reason


PENDING = (Status.PENDING, None)
CANCELLED = (Status.CANCELLED, Reason.DEADLINE)


def test_an_order_is_cancelled_a_moment_after_its_deadline(
    order_database: Sessions, back: Sweep
) -> None:
    # given
    late = place(order_database, overdue=3)
    just_late = place(order_database, overdue=0)
    in_time = place(order_database, overdue=-60)

    # when
    assert back.step(soon()) == 1

    # then a decision may still come for the one whose deadline has only just passed
    assert status(order_database, late) == CANCELLED
    assert status(order_database, just_late) == PENDING
    assert status(order_database, in_time) == PENDING

    # and for no longer than that
    eventually(lambda: _cancels(back, 1))
    assert status(order_database, just_late) == CANCELLED
    assert status(order_database, in_time) == PENDING


def test_a_restarted_sweep_leaves_time_for_decisions(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a sweep that has just started, and an order long overdue
    monkeypatch.setattr(sweep, "RETURN", 3_600.0)
    order_id = place(order_database, overdue=600)
    returning = Sweep(order_database)

    # when it turns
    assert [returning.step(soon()) for _ in range(3)] == [0, 0, 0]
    assert status(order_database, order_id) == PENDING

    # then it cancels once the time is over
    monkeypatch.setattr(sweep, "RETURN", 0.0)
    assert returning.step(soon()) == 1


class _Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


def test_a_sweep_leaves_time_for_decisions_after_a_long_outage(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = _Clock()
    monkeypatch.setattr(sweep, "time", clock)
    returning = Sweep(order_database)

    def step_after(seconds: float) -> int:
        clock.now += seconds
        return returning.step(clock.now + 30)

    # given a sweep at work, that then fails for as long as a hiccup lasts at most
    assert [step_after(sweep.RETURN / 2) for _ in range(4)] == [0] * 4
    order_id = place(order_database, overdue=600)
    _rename(order_database, "orders", "gone")
    assert [step_after(sweep.ABSENCE / 3) for _ in range(3)] == [0] * 3
    assert caplog.messages.count("sweep failed with a database error") == 3

    # when the database is back after more than that
    _rename(order_database, "gone", "orders")

    # then it cancels nothing for a while, and then it does
    assert [step_after(seconds) for seconds in (0.5, sweep.RETURN / 2, sweep.RETURN / 2)] == [0] * 3
    assert status(order_database, order_id) == PENDING
    assert step_after(0.5) == 1
    assert status(order_database, order_id) == CANCELLED


def test_a_sweep_is_not_delayed_by_a_single_database_error(
    order_database: Sessions, back: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    # given
    place(order_database, overdue=600)
    _rename(order_database, "orders", "gone")
    assert back.step(soon()) == 0
    assert "sweep failed with a database error" in caplog.messages

    # when
    _rename(order_database, "gone", "orders")

    # then
    assert back.step(soon()) == 1


def test_a_sweep_processes_batches_until_its_time_is_over(
    order_database: Sessions, back: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH", 2)
    for _ in range(5):
        place(order_database, overdue=600)

    assert back.step(time.monotonic() - 1) == 0
    assert back.step(soon()) == 5


def test_a_full_sweep_cancels_an_order_that_appears_late(
    order_database: Sessions, back: Sweep
) -> None:
    # given sweeps that have taken all, and begin with recent deadlines
    assert [back.step(soon()), back.step(soon())] == [0, 0]

    # when an order turns up that was due ten minutes before, and one that was due just now
    place(order_database, overdue=600)
    place(order_database, overdue=10)

    # then a sweep takes the second, and the next one that begins with the first entry the other
    assert back.step(soon()) == 1
    back._next_full = 0.0
    assert back.step(soon()) == 1


def _cancels(back: Sweep, count: int) -> None:
    assert back.step(soon()) == count


def _rename(sessions: Sessions, old: str, new: str) -> None:
    with transaction(sessions) as session:
        session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
