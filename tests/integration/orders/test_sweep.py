"""The sweep cancels orders past their deadline, by the clock of the database alone."""

import time
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from eventbus.database.db import Sessions, transaction
from eventbus.loop import INTERVAL
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
def running(order_database: Sessions, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    """A sweep that has run for long enough to cancel orders."""
    monkeypatch.setattr(sweep, "RETURN", 0.0)
    running = Sweep(order_database)
    running.step(soon())
    return running


def soon() -> float:
    return time.monotonic() + 30


def place(sessions: Sessions, *, overdue: float) -> UUID:
    """Place an order that has been overdue for so many seconds, which may be negative."""
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


#: Seconds after its deadline during which an order may be PENDING.
PROMISED = 5.0

PENDING = (Status.PENDING, None)
CANCELLED = (Status.CANCELLED, Reason.DEADLINE)


def test_an_order_is_cancelled_a_moment_after_its_deadline(
    order_database: Sessions, running: Sweep
) -> None:
    # Given orders before, at and after their deadline. The latest sweep that may cancel an order
    # starts an interval of the loop, and a second for the sweep, before the five seconds are over.
    late = place(order_database, overdue=PROMISED - INTERVAL - 1)
    just_late = place(order_database, overdue=0)
    in_time = place(order_database, overdue=-60)

    # When a sweep runs
    assert running.step(soon()) == 1

    # Then an order whose deadline has just passed can still be decided
    assert status(order_database, late) == CANCELLED
    assert status(order_database, just_late) == PENDING
    assert status(order_database, in_time) == PENDING

    # And it is cancelled a moment later
    eventually(lambda: _cancels(running, 1))
    assert status(order_database, just_late) == CANCELLED
    assert status(order_database, in_time) == PENDING


def test_a_restarted_sweep_leaves_time_for_decisions(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a sweep that has just started, and a long overdue order
    monkeypatch.setattr(sweep, "RETURN", 3_600.0)
    order_id = place(order_database, overdue=600)
    restarted = Sweep(order_database)

    # When it runs
    assert [restarted.step(soon()) for _ in range(3)] == [0, 0, 0]
    assert status(order_database, order_id) == PENDING

    # Then it cancels the order once the grace period is over
    monkeypatch.setattr(sweep, "RETURN", 0.0)
    assert restarted.step(soon()) == 1


class _Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


def test_a_sweep_leaves_time_for_decisions_after_a_long_outage(
    order_database: Sessions, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = _Clock()
    monkeypatch.setattr(sweep, "time", clock)
    restarted = Sweep(order_database)

    def step_after(seconds: float) -> int:
        clock.now += seconds
        return restarted.step(clock.now + 30)

    # Given a running sweep that then fails for the longest short outage
    assert [step_after(sweep.RETURN / 2) for _ in range(4)] == [0] * 4
    order_id = place(order_database, overdue=600)
    _rename(order_database, "orders", "gone")
    assert [step_after(sweep.ABSENCE / 3) for _ in range(3)] == [0] * 3
    assert caplog.messages.count("sweep failed with a database error") == 3

    # When the database returns after a longer time
    _rename(order_database, "gone", "orders")

    # Then the sweep cancels orders only after a grace period
    assert [step_after(seconds) for seconds in (0.5, sweep.RETURN / 2, sweep.RETURN / 2)] == [0] * 3
    assert status(order_database, order_id) == PENDING
    assert step_after(0.5) == 1
    assert status(order_database, order_id) == CANCELLED


@pytest.mark.parametrize(
    "damage",
    [
        # No event can contain an empty SKU.
        "UPDATE order_lines SET sku = '' WHERE order_id = '{id}'",
        "ALTER TABLE outbox ADD CHECK (subject <> '{id}') NOT VALID",
    ],
    ids=["an error of the program", "an error of the database"],
)
def test_an_order_that_cannot_be_cancelled_does_not_block_others(
    order_database: Sessions,
    running: Sweep,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    # Given a damaged order that is overdue for longer than the others
    damaged = place(order_database, overdue=60)
    with transaction(order_database) as session:
        session.execute(text(damage.format(id=damaged)))
    others = [place(order_database, overdue=30) for _ in range(3)]

    # When sweeps run
    assert [running.step(soon()) for _ in range(2)] == [3, 0]

    # Then the others are cancelled, and the damaged one is logged and stays PENDING
    assert {status(order_database, order_id) for order_id in others} == {CANCELLED}
    assert status(order_database, damaged) == PENDING
    assert caplog.messages.count("overdue orders not cancelled") == 1

    # And the next full sweep retries it
    monkeypatch.setattr(sweep, "FULL_INTERVAL", 0.0)
    running._next_full = 0.0
    assert running.step(soon()) == 0
    assert caplog.messages.count("overdue orders not cancelled") == 2


def test_a_sweep_is_not_delayed_by_a_single_database_error(
    order_database: Sessions, running: Sweep, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a sweep that has failed once
    place(order_database, overdue=600)
    _rename(order_database, "orders", "gone")
    assert running.step(soon()) == 0
    assert "sweep failed with a database error" in caplog.messages

    # When the database works again
    _rename(order_database, "gone", "orders")

    # Then the next sweep cancels the order
    assert running.step(soon()) == 1


def test_a_sweep_processes_batches_until_its_time_is_over(
    order_database: Sessions, running: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "BATCH", 2)
    for _ in range(5):
        place(order_database, overdue=600)

    assert running.step(time.monotonic() - 1) == 0
    assert running.step(soon()) == 5


def test_a_full_sweep_cancels_an_order_that_appears_late(
    order_database: Sessions, running: Sweep
) -> None:
    # Given sweeps that have cancelled all orders and start at recent deadlines
    assert [running.step(soon()), running.step(soon())] == [0, 0]

    # When an order appears ten minutes late, and one appears just late
    place(order_database, overdue=600)
    place(order_database, overdue=10)

    # Then a sweep cancels the recent one, and a full sweep the other
    assert running.step(soon()) == 1
    running._next_full = 0.0
    assert running.step(soon()) == 1


def _cancels(running: Sweep, count: int) -> None:
    assert running.step(soon()) == count


def _rename(sessions: Sessions, old: str, new: str) -> None:
    with transaction(sessions) as session:
        session.execute(text(f"ALTER TABLE {old} RENAME TO {new}"))
