"""A replay rebuilds the projections from the stream while the live reader continues."""

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
from eventbus.database.db import Sessions, engine_of, transaction
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
    """A function that replays the stream into the test's database."""
    live = engine_of(analytics_database)
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
    """Falsify every figure."""
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
    # Given projections with false figures
    events = [e for n in range(30) for e in order(CONFIRMED, at=20 * n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    right = everything(analytics_database)
    spoil(analytics_database)
    progress: list[Any] = []

    # When the whole stream is replayed
    result = replay("first", progress=progress.append)

    # Then every row is correct again
    assert everything(analytics_database) == right
    assert (result.since, result.first_offset, result.events) == (None, 0, len(events))
    assert progress[-1].read == progress[-1].total
    # And the live reader continues
    publish(broker, events[0], *order())
    read_until(reader, lambda: placed(analytics_database) == 31)


def test_a_replay_from_a_time_keeps_earlier_minutes(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # Given an order from an hour ago and a current one, confirmed after both were placed
    now = datetime.now(UTC)
    shift = (now - AT).total_seconds()
    early, late = order(CONFIRMED, at=shift - 3600), order(CONFIRMED, at=shift)
    publish(broker, early[0], at=early[0].time)
    publish(broker, late[0], early[1], late[1])
    read_until(reader, lambda: count(analytics_database, "inbox") == 4)
    before, after = minutes(analytics_database)
    spoil(analytics_database)
    spoiled = minutes(analytics_database)[0]

    # When the last minute is replayed
    result = replay(now - timedelta(minutes=1))

    # Then only the current minute is rebuilt
    assert minutes(analytics_database) == [spoiled, after]
    assert spoiled != before
    assert result.since == (now - timedelta(minutes=1)).replace(second=0, microsecond=0)
    assert count(analytics_database, "orders") == 2
    assert count(analytics_database, "skipped_events") == 0


def test_a_replay_from_an_offset_starts_at_the_first_whole_minute(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # Given orders of ten minutes, and false figures
    events = [e for n in range(10) for e in order(CONFIRMED, at=60 * n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    right = minutes(analytics_database)
    spoil(analytics_database)
    spoiled = minutes(analytics_database)

    # When the stream is replayed from an offset
    result = replay(4)

    # Then the first whole minute and all later ones are rebuilt
    assert result.first_offset == 4
    # The event was published at 12:32:15, so 12:34 is certainly whole.
    assert result.since == MINUTE + timedelta(minutes=4)
    assert minutes(analytics_database) == spoiled[:4] + right[4:]


def test_events_published_during_a_replay_count_once(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # Given false figures, and orders that are published during the replay
    events = [e for n in range(5) for e in order(CONFIRMED, at=n)]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    spoil(analytics_database)
    later = [e for n in range(5) for e in order(CONFIRMED, at=n)]
    read = 0

    def meanwhile(_progress: Any) -> None:
        # The live reader continues after the replay has read the stream.
        nonlocal read
        if not read:
            publish(broker, *later)
            wanted = len(events) + len(later)
            read_until(reader, lambda: count(analytics_database, "inbox") == wanted)
        read += 1

    # When the stream is replayed
    result = replay("first", progress=meanwhile)

    # Then the replay includes the new orders once
    assert result.events == len(events) + len(later)
    assert minutes(analytics_database)[0][2:6] == (10, 19_000, 10, 19_000)
    assert skus(analytics_database)[1][2:] == (10, 20, 10, 10_000)


def test_events_read_just_before_the_replay_lock_are_included(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given one order
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(analytics_database, "inbox") == 2)
    read_position = position.read

    def late(session: Session, *, lock: bool = False) -> Position | None:
        # Between the replay's last read of the position and its lock.
        if lock:
            monkeypatch.undo()
            publish(broker, *order(CONFIRMED))
            read_until(reader, lambda: count(analytics_database, "inbox") == 4)
        return read_position(session, lock=lock)

    monkeypatch.setattr(position, "read", late)

    # When the live reader reads another order just before the lock
    result = replay("first")

    # Then the replay includes it
    assert (result.events, result.last_offset) == (4, 3)
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 2, 3800)


def test_a_replay_projects_skipped_events_after_a_fix(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a release that cannot project confirmations
    def fails(session: Any, entries: Any, **options: Any) -> None:
        if any(e.message.headers["task"] == "order.confirmed" for e in entries):
            raise RuntimeError("a bug")
        projection.project(session, entries, **options)

    monkeypatch.setattr(stream_reader, "project", fails)
    publish(broker, *order(CONFIRMED), *order())
    read_until(reader, lambda: placed(analytics_database) == 2)
    assert count(analytics_database, "skipped_events") == 1

    # When a fixed release replays the stream
    monkeypatch.undo()
    replay("first")

    # Then the confirmation counts
    assert count(analytics_database, "skipped_events") == 0
    assert minutes(analytics_database)[0][4:6] == (1, 1900)


def test_a_failed_replay_has_no_effect(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    replay: Callable[..., Rebuilt],
) -> None:
    # Given a correct projection; before it, there is nothing to replay
    with pytest.raises(ReplayError, match="has not read anything yet"):
        replay("first")
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(analytics_database, "inbox") == 2)
    before = everything(analytics_database)

    # When replays exceed their time limit
    with pytest.raises(ReplayError, match="in time"):
        replay("first", limit=0.0)
    with pytest.raises(ReplayError, match="in time"):
        replay(1_000_000, limit=1.0)

    # Then the projections are unchanged, and the shadow tables are gone
    assert everything(analytics_database) == before
    with transaction(analytics_database) as session:
        query = text("SELECT count(*) FROM pg_namespace WHERE nspname = :name")
        assert session.scalar(query, {"name": BESIDE}) == 0


def test_only_one_replay_runs_at_a_time(
    analytics_database: Sessions, replay: Callable[..., Rebuilt]
) -> None:
    with tables(engine_of(analytics_database)), pytest.raises(ReplayRunsError):
        replay("first")
