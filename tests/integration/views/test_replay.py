"""A replay rebuilds the projections from the stream, while the live reader goes on."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from analytics_worker import position, projection, stream_reader
from analytics_worker.position import Position
from analytics_worker.replay import Rebuilt, Replay, ReplayError
from analytics_worker.shadow_tables import BESIDE, ReplayRunsError, tables
from analytics_worker.stream_reader import Reader
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.messaging.stream import Start
from testkit.data.projections import (
    AT,
    CONFIRMED,
    MINUTE,
    count,
    everything,
    minutes,
    order,
    placed,
    publish,
    read_until,
    skus,
)
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost


@pytest.fixture
def replay(
    broker: Vhost, database_of: Callable[[str], TestDatabase], analytics_database: Sessions
) -> Iterator[Callable[..., Rebuilt]]:
    """Replays into the test's database."""
    live = analytics_database.kw["bind"]
    beside = db.create_engine(
        live.url,
        connect_args={"options": f"-c search_path={BESIDE},public"},
    )

    def run(start: Start, **options: Any) -> Rebuilt:
        with broker.connect() as connection:
            return Replay(live, beside, connection, **options).run(start)

    yield run
    beside.dispose()


def spoil(sessions: Sessions) -> None:
    """Count everything wrong."""
    with transaction(sessions) as session:
        session.execute(text("UPDATE minutes SET placed = placed + 7, revenue = 0"))
        session.execute(text("UPDATE sku_minutes SET pieces = 0"))
        session.execute(text("UPDATE orders SET outcome = 'OPEN'"))


def test_a_replay_from_the_first_event_rebuilds_everything(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # given
    events = [e for n in range(30) for e in order(CONFIRMED, at=20 * n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    right = everything(analytics_database)
    spoil(analytics_database)
    seen: list[Any] = []

    # when
    done = replay("first", progress=seen.append)

    # then
    assert everything(analytics_database) == right
    assert (done.since, done.first_offset, done.events) == (None, 0, len(events))
    assert seen[-1].read == seen[-1].total
    # and the live reader goes on
    publish(broker, events[0], *order())
    read_until(reader, lambda: placed(analytics_database) == 31)


def test_a_replay_from_a_time_keeps_earlier_minutes(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # given an order of an hour ago, and one now that is confirmed after the other's
    now = datetime.now(UTC)
    shift = (now - AT).total_seconds()
    early, late = order(CONFIRMED, at=shift - 3600), order(CONFIRMED, at=shift)
    publish(broker, early[0], at=early[0].time)
    publish(broker, late[0], early[1], late[1])
    read_until(reader, lambda: count(analytics_database, "inbox") == 4)
    before, after = minutes(analytics_database)
    spoil(analytics_database)
    spoiled = minutes(analytics_database)[0]

    # when
    done = replay(now - timedelta(minutes=1))

    # then
    assert minutes(analytics_database) == [spoiled, after]
    assert spoiled != before
    assert done.since == (now - timedelta(minutes=1)).replace(second=0, microsecond=0)
    assert count(analytics_database, "orders") == 2
    assert count(analytics_database, "skipped_events") == 0


def test_a_replay_from_an_offset_starts_at_the_first_whole_minute(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # given
    events = [e for n in range(10) for e in order(CONFIRMED, at=60 * n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    right = minutes(analytics_database)
    spoil(analytics_database)
    spoiled = minutes(analytics_database)

    # when
    done = replay(4)

    # then
    assert done.first_offset == 4
    # Published at 12:32:15, so 12:34 is sure to be whole.
    assert done.since == MINUTE + timedelta(minutes=4)
    assert minutes(analytics_database) == spoiled[:4] + right[4:]


def test_events_published_during_a_replay_count_once(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # given
    events = [e for n in range(5) for e in order(CONFIRMED, at=n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    spoil(analytics_database)
    later = [e for n in range(5) for e in order(CONFIRMED, at=n)]
    read = 0

    def meanwhile(_progress: Any) -> None:
        # The live reader reads on after the replay's last look.
        nonlocal read
        if not read:
            publish(broker, *later)
            wanted = len(events) + len(later)
            read_until(reader, lambda: count(analytics_database, "inbox") == wanted)
        read += 1

    # when
    done = replay("first", progress=meanwhile)

    # then
    assert done.events == len(events) + len(later)
    assert minutes(analytics_database)[0][2:6] == (10, 19_000, 10, 19_000)
    assert skus(analytics_database)[1][2:] == (10, 20, 10, 10_000)


def test_events_read_just_before_the_replay_lock_are_included(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(analytics_database, "inbox") == 2)
    look = position.read

    def late(session: Session, *, lock: bool = False) -> Position | None:
        # Between the replay's last look and its lock.
        if lock:
            monkeypatch.undo()
            publish(broker, *order(CONFIRMED))
            read_until(reader, lambda: count(analytics_database, "inbox") == 4)
        return look(session, lock=lock)

    monkeypatch.setattr(position, "read", late)

    # when
    done = replay("first")

    # then
    assert (done.events, done.last_offset) == (4, 3)
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 2, 3800)


def test_a_replay_projects_skipped_events_after_a_fix(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given a release that cannot read the confirmed ones
    def stumbles(session: Any, entries: Any, **options: Any) -> None:
        if any(e.message.headers["task"] == "order.confirmed" for e in entries):
            raise RuntimeError("a bug")
        projection.project(session, entries, **options)

    monkeypatch.setattr(stream_reader, "project", stumbles)
    publish(broker, *order(CONFIRMED), *order())
    read_until(reader, lambda: placed(analytics_database) == 2)
    assert count(analytics_database, "skipped_events") == 1

    # when it is mended
    monkeypatch.undo()
    replay("first")

    # then
    assert count(analytics_database, "skipped_events") == 0
    assert minutes(analytics_database)[0][4:6] == (1, 1900)


def test_a_failed_replay_has_no_effect(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # given
    with pytest.raises(ReplayError, match="has not read anything yet"):
        replay("first")
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(analytics_database, "inbox") == 2)
    before = everything(analytics_database)

    # when
    with pytest.raises(ReplayError, match="in time"):
        replay("first", limit=0.0)
    with pytest.raises(ReplayError, match="in time"):
        replay(1_000_000, limit=1.0)

    # then
    assert everything(analytics_database) == before
    with transaction(analytics_database) as session:
        query = text("SELECT count(*) FROM pg_namespace WHERE nspname = :name")
        assert session.scalar(query, {"name": BESIDE}) == 0


def test_only_one_replay_runs_at_a_time(
    analytics_database: Sessions, replay: Callable[..., Rebuilt]
) -> None:
    with tables(analytics_database.kw["bind"]), pytest.raises(ReplayRunsError):
        replay("first")
