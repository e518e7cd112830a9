"""The scheduler uses a monotonic clock, and sleeps until a tick is due."""

from datetime import timedelta

import pytest
from celery import Celery
from celery.beat import ScheduleEntry, Scheduler
from celery.schedules import schedule

from scheduler import punctual
from scheduler.punctual import PunctualScheduler, uptime


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The monotonic clock. It advances only when a test sets it."""
    moment = {"now": 1_000.0}
    monkeypatch.setattr(punctual, "monotonic", lambda: moment["now"])
    return moment


def scheduler(kind: type[Scheduler]) -> Scheduler:
    """Return a scheduler with one entry that is due every second and was just sent."""
    app = Celery(set_as_current=False)
    every = schedule(1.0, nowfun=uptime, app=app)
    entry = ScheduleEntry(name="tick", task="tick", schedule=every, app=app)
    return kind(app, schedule={"tick": entry}, lazy=True)


@pytest.mark.parametrize("milliseconds", [500, 10, 5, 1])
def test_the_scheduler_sleeps_until_a_tick_is_due(
    clock: dict[str, float], milliseconds: int
) -> None:
    # Given a tick that is due soon
    beat = scheduler(PunctualScheduler)
    due_in = timedelta(milliseconds=milliseconds).total_seconds()
    clock["now"] += 1 - due_in

    # Then beat sleeps until then
    assert beat.tick() == pytest.approx(due_in, abs=1e-4)


def test_the_scheduler_of_celery_still_spins(clock: dict[str, float]) -> None:
    # Given a tick that is due in five milliseconds
    beat = scheduler(Scheduler)
    clock["now"] += 0.995

    # Then it does not sleep: once it does, our scheduler is obsolete
    assert beat.tick() <= 0


def test_a_tick_is_sent_once_a_second(
    clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a scheduler that records what it sends
    beat = scheduler(PunctualScheduler)
    sent: list[float] = []
    monkeypatch.setattr(beat, "apply_entry", lambda *_, **__: sent.append(clock["now"]))

    # When it sleeps for the returned time, and once for much longer
    for late in (0, 0, 30, 0, 0):
        while (pause := beat.tick()) == 0:
            pass
        clock["now"] += pause + late

    # Then no tick is sent twice, and missed ticks are not sent later
    assert sent == pytest.approx([1_001, 1_002, 1_033, 1_034], abs=0.1)
