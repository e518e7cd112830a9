"""Beat sleeps until a tick is due."""

from datetime import UTC, datetime, timedelta

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

from scheduler.punctual import PunctualScheduler

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def scheduler(kind: type[Scheduler], *, due_in: timedelta) -> Scheduler:
    """Return a scheduler for which time stands still."""
    app = Celery(set_as_current=False)
    entry = ScheduleEntry(
        name="tick",
        task="tick",
        schedule=schedule(1.0, nowfun=lambda: NOW, app=app),
        last_run_at=NOW - timedelta(seconds=1) + due_in,
        app=app,
    )
    return kind(app, schedule={"tick": entry}, lazy=True)


@pytest.mark.parametrize("milliseconds", [500, 10, 5, 1])
def test_beat_sleeps_for_as_long_as_nothing_is_due(milliseconds: int) -> None:
    # given
    due_in = timedelta(milliseconds=milliseconds)
    beat = scheduler(PunctualScheduler, due_in=due_in)

    # when, then
    assert beat.tick() == pytest.approx(due_in.total_seconds(), abs=1e-4)


def test_celerys_own_scheduler_still_spins() -> None:
    # given
    beat = scheduler(Scheduler, due_in=timedelta(milliseconds=5))

    # when, then: without it, ours may go
    assert beat.tick() <= 0
