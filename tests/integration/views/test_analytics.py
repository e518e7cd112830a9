"""The projections: each event counts once, in its order's minute, whatever repeats or breaks."""

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from kombu.connection import Connection
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from analytics_worker import figures, position, projection, stream_reader
from analytics_worker.models import SkippedRow
from analytics_worker.position import Position
from analytics_worker.replay import Rebuilt, Replay, ReplayError
from analytics_worker.shadow_tables import BESIDE, ReplayRunsError, tables
from analytics_worker.stream_reader import Reader
from common.events import Data, Line, OrderCancelled, OrderConfirmed, OrderCreated, StockReserved
from common.kombu_topology import EVENTS, STREAM, stream
from console.orderctl import main
from console.settings import ReplaySettings, load_operator
from eventbus.database import db
from eventbus.database.db import Sessions, transaction
from eventbus.events import codec
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from eventbus.messaging.stream import Start
from testkit.eventually import eventually
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost

AT = datetime(2026, 11, 1, 12, 30, 15, tzinfo=UTC)
LINES = (
    Line(sku="TEA", quantity=2, unit_price=500),
    Line(sku="CUP", quantity=1, unit_price=900),
)
ORDERED: dict[str, Any] = {
    "customer_email": "ada@example.com",
    "currency": "EUR",
    "total": 1900,
    "lines": LINES,
}
CREATED = OrderCreated(**ORDERED)
CONFIRMED = OrderConfirmed(**ORDERED)


def cancelled(reason: str) -> OrderCancelled:
    return OrderCancelled(reason=reason, **ORDERED)


def event(data: Data, order_id: UUID, *, after: float = 0.0) -> Event:
    return Event(
        source="order", subject=order_id, sequence=1, time=AT + timedelta(seconds=after), data=data
    )


def publish(broker: Vhost, *events: Event, at: datetime | None = None) -> None:
    for each in events:
        broker.publish(
            codec.wrap(codec.encode(each)),
            exchange=EVENTS.name,
            routing_key=each.type,
            headers=task_headers(str(each.id), each.type, None),
            message_id=str(each.id),
            timestamp=int((at or each.time).timestamp()),
        )


def order(*after: Data, at: float = 0.0) -> list[Event]:
    """An order that is placed, and what becomes of it, a second after another."""
    order_id = uuid4()
    return [event(data, order_id, after=at + n) for n, data in enumerate((CREATED, *after))]


@pytest.fixture
def reader(broker: Vhost, analytics_database: Sessions) -> Iterator[Reader]:
    """A reader of the broker's stream."""
    made = Reader(analytics_database, broker.connect)
    yield made
    made.close()


def read_until(reader: Reader, done: Callable[[], bool]) -> None:
    def look() -> None:
        reader.read(time.monotonic() + 0.3)
        assert done()

    eventually(look)


def minutes(sessions: Sessions) -> list[tuple[Any, ...]]:
    query = text(
        "SELECT minute, currency, placed, placed_total, confirmed, revenue, rejected, cancelled,"
        " decided, decision_microseconds FROM minutes ORDER BY 1, 2"
    )
    with transaction(sessions) as session:
        return [tuple(row) for row in session.execute(query)]


def skus(sessions: Sessions) -> list[tuple[Any, ...]]:
    query = text(
        "SELECT minute, sku, placed, pieces, confirmed, revenue FROM sku_minutes ORDER BY 1, 2"
    )
    with transaction(sessions) as session:
        return [tuple(row) for row in session.execute(query)]


def everything(sessions: Sessions) -> tuple[Any, ...]:
    with transaction(sessions) as session:
        orders = session.execute(text("SELECT * FROM orders ORDER BY id")).all()
    return minutes(sessions), skus(sessions), [tuple(row) for row in orders]


def placed(sessions: Sessions) -> int:
    return sum(row[2] for row in minutes(sessions))


def count(sessions: Sessions, table: str) -> int:
    with transaction(sessions) as session:
        return int(session.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


MINUTE = AT.replace(second=0)


# --- What an order adds -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((), (1, 1900, 0, 0, 0, 0, 0, 0)),
        ((CONFIRMED,), (1, 1900, 1, 1900, 0, 0, 1, 1_000_000)),
        ((cancelled("out_of_stock"),), (1, 1900, 0, 0, 1, 0, 1, 1_000_000)),
        ((cancelled("deadline"),), (1, 1900, 0, 0, 0, 1, 0, 0)),
        # Its revenue is gone again; that it was decided stays.
        ((CONFIRMED, cancelled("customer")), (1, 1900, 0, 0, 0, 1, 1, 1_000_000)),
    ],
    ids=["placed", "confirmed", "rejected", "past its deadline", "confirmed and cancelled"],
)
def test_an_order_counts_in_the_minute_of_its_placing(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    after: tuple[Data, ...],
    expected: tuple[int, ...],
) -> None:
    # given what crosses a minute
    events = order(*after, at=44)
    publish(broker, *events)

    # when
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))

    # then
    assert minutes(analytics_database) == [(MINUTE, "EUR", *expected)]
    confirmed = expected[2]
    assert skus(analytics_database) == [
        (MINUTE, "CUP", 1, 1, confirmed, 900 * confirmed),
        (MINUTE, "TEA", 1, 2, confirmed, 1000 * confirmed),
    ]


def test_what_people_are_shown_follows(broker: Vhost, analytics_database: Sessions) -> None:
    # given
    now = datetime.now(UTC)
    shift = (now - AT).total_seconds()
    reader = Reader(analytics_database, broker.connect)
    events = [
        *order(CONFIRMED, at=shift),
        *order(CONFIRMED, at=shift),
        *order(CONFIRMED, at=shift),
        *order(cancelled("out_of_stock"), at=shift),
    ]
    publish(broker, *events)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    reader.close()

    # when
    with transaction(analytics_database) as session:
        (sales,) = figures.in_all(figures.by_minute(session, timedelta(hours=1)))
        top, other = figures.by_sku(session, timedelta(hours=1), 5)
        none = figures.by_minute(session, timedelta(seconds=-120))

    # then
    assert (sales.placed, sales.revenue) == (4, 5700)
    assert sales.rejection_rate == 0.25
    assert sales.seconds_to_decision == pytest.approx(1.0)
    assert [(s.sku, s.pieces, s.revenue) for s in (top, other)] == [
        ("TEA", 8, 3000),
        ("CUP", 4, 2700),
    ]
    assert none == []


# --- Each once ----------------------------------------------------------------------------------


def test_an_event_that_is_in_the_stream_twice_counts_once(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given, as a relay leaves it that dies between publish and mark
    events = order(CONFIRMED, cancelled("customer"))
    publish(broker, *events, *events[:2])
    publish(broker, *(last := order()))

    # when
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events + last))

    # then the copies bring back neither the order nor its revenue
    assert minutes(analytics_database)[0][2:8] == (2, 3800, 0, 0, 0, 1)


def test_a_reader_that_dies_anywhere_neither_skips_nor_doubles(
    broker: Vhost,
    analytics_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # given small batches, and a death at the end of each transaction before its commit
    monkeypatch.setattr(stream_reader, "BATCH", 3)
    events = [e for n in range(10) for e in order(CONFIRMED, at=n)]
    publish(broker, *events)
    project, deaths = projection.project, iter(range(4))

    def dies(session: Any, entries: Any, **options: Any) -> None:
        project(session, entries, **options)
        if next(deaths, None) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(stream_reader, "project", dies)

    # when
    for _ in range(4):
        reader = Reader(analytics_database, broker.connect)
        with pytest.raises(KeyboardInterrupt):
            reader.read(time.monotonic() + 30)
        reader.close()
    reader = Reader(analytics_database, broker.connect)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    reader.close()

    # then
    assert minutes(analytics_database) == [
        (MINUTE, "EUR", 10, 19_000, 10, 19_000, 0, 0, 10, 10_000_000)
    ]


def test_what_was_read_is_not_read_again_though_the_inbox_has_forgotten_it(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # given what somebody has read, and its dedup keys removed as they are after some weeks
    publish(broker, *order(CONFIRMED))
    first = Reader(analytics_database, broker.connect)
    read_until(first, lambda: count(analytics_database, "inbox") == 2)
    first.close()
    with transaction(analytics_database) as session:
        session.execute(text("DELETE FROM inbox"))

    # when the next one reads
    publish(broker, *order())
    second = Reader(analytics_database, broker.connect)
    read_until(second, lambda: placed(analytics_database) == 2)
    second.close()

    # then
    assert count(analytics_database, "inbox") == 1
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 1, 1900)


def test_one_reader_reads_and_another_waits_until_it_can(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given somebody who reads
    publish(broker, *order())
    with analytics_database.kw["bind"].connect() as other:
        other.execute(text("SELECT pg_advisory_lock(hashtext('stream_position'))"))

        # when
        reader.read(time.monotonic() + 0.5)

        # then
        assert placed(analytics_database) == 0
        other.execute(text("SELECT pg_advisory_unlock_all()"))

    read_until(reader, lambda: placed(analytics_database) == 1)


# --- What cannot be projected -------------------------------------------------------------------


def test_a_message_that_is_no_event_is_kept_with_its_reason_and_stops_nothing(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given
    publish(broker, *order())
    for body in (b"\xff", b"{}", b"[1]", b'[[],{"event":{"type":"order.created"}},{}]'):
        broker.publish(body, exchange=EVENTS.name, routing_key="order.created", headers={})
    publish(broker, *order())

    # when
    read_until(reader, lambda: placed(analytics_database) == 2)

    # then
    with transaction(analytics_database) as session:
        kept = session.scalars(select(SkippedRow).order_by(SkippedRow.stream_offset)).all()
    assert len(kept) == 4
    assert all(row.reason.startswith("no event: ") for row in kept)
    assert kept[1].body == "{}"


def test_an_event_that_the_database_refuses_is_kept_alone(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given more money than a bigint holds, in the middle of a batch
    huge = OrderCreated(**(ORDERED | {"total": 2**63}))
    publish(broker, *order(), event(huge, uuid4()), *order())

    # when
    read_until(reader, lambda: placed(analytics_database) == 2)

    # then
    assert count(analytics_database, "skipped_events") == 1
    assert count(analytics_database, "orders") == 2


def test_sums_that_no_bigint_holds_are_counted(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given orders of the largest total, confirmed, in one minute
    large = {"total": 10**18, "lines": (Line(sku="TEA", quantity=10**6, unit_price=10**12),)}
    for _ in range(12):
        order_id = uuid4()
        placed_, confirmed = OrderCreated(**(ORDERED | large)), OrderConfirmed(**(ORDERED | large))
        publish(broker, event(placed_, order_id), event(confirmed, order_id))

    # when
    read_until(reader, lambda: count(analytics_database, "inbox") == 24)

    # then
    assert minutes(analytics_database)[0][2:6] == (12, 12 * 10**18, 12, 12 * 10**18)
    assert skus(analytics_database)[0][2:] == (12, 12 * 10**6, 12, 12 * 10**18)
    assert count(analytics_database, "skipped_events") == 0
    with transaction(analytics_database) as session:
        (sales,) = figures.by_sku(session, timedelta(days=36_500), 10)
    assert sales.revenue == 12 * 10**18


def test_an_order_with_an_outcome_of_another_release_stays_as_it_is(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # given
    events = order(CONFIRMED)
    publish(broker, events[0])
    read_until(reader, lambda: placed(analytics_database) == 1)
    with transaction(analytics_database) as session:
        session.execute(text("UPDATE orders SET outcome = 'RETURNED'"))
    before = minutes(analytics_database)

    # when
    publish(broker, events[1], *order())
    read_until(reader, lambda: placed(analytics_database) == 2)

    # then
    assert before[0][2:6] == (1, 1900, 0, 0)
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 0, 0)
    assert count(analytics_database, "skipped_events") == 0


def test_an_event_of_an_order_that_was_not_seen_placed_is_kept(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    publish(broker, event(CONFIRMED, order_id := uuid4()), *order(StockReserved(lines=())))

    read_until(reader, lambda: placed(analytics_database) == 1)

    with transaction(analytics_database) as session:
        (row,) = session.scalars(select(SkippedRow))
    assert (row.order_id, row.type, row.reason) == (
        order_id,
        "order.confirmed",
        "the order was not seen placed",
    )


# --- What the stream does not have any more -----------------------------------------------------


def test_another_stream_is_read_from_its_beginning_and_told(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # given a broker that has lost its data
    old = order(CONFIRMED)
    publish(broker, *old)
    reader = Reader(analytics_database, broker.connect)
    read_until(reader, lambda: count(analytics_database, "inbox") == 2)
    bindings = broker.request("GET", f"/queues/{broker.name}/{STREAM}/bindings").json()
    broker.request("DELETE", f"/queues/{broker.name}/{STREAM}")
    broker.request(
        "PUT",
        f"/queues/{broker.name}/{STREAM}",
        json={"durable": True, "arguments": stream().queue_arguments},
    )
    for each in bindings:
        if each["source"]:
            broker.request(
                "POST",
                f"/bindings/{broker.name}/e/{EVENTS.name}/q/{STREAM}",
                json={"routing_key": each["routing_key"]},
            )

    # when an event comes again, and a new one
    publish(broker, old[0], *order())
    read_until(reader, lambda: placed(analytics_database) == 2)
    reader.close()

    # then
    assert count(analytics_database, "stream_gaps") == 1
    assert count(analytics_database, "orders") == 2


def test_offsets_that_are_gone_are_told_and_the_rest_is_read(
    broker: Vhost, reader: Reader, analytics_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a reader that was at offset 0, when the broker begins to give from 2 on
    publish(broker, *order(), *order(), *order())
    with transaction(analytics_database) as session:
        session.execute(
            text("INSERT INTO stream_position (id, stream_offset, message_id) VALUES (1, 0, 'x')")
        )
    real = stream_reader.Stream
    monkeypatch.setattr(stream_reader, "Stream", lambda connection, _start: real(connection, 2))

    # when
    read_until(reader, lambda: placed(analytics_database) == 1)

    # then
    with transaction(analytics_database) as session:
        gap = session.execute(text("SELECT first_offset, last_offset FROM stream_gaps")).one()
    assert tuple(gap) == (1, 1)


# --- Replay -------------------------------------------------------------------------------------


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


def test_a_replay_from_the_first_event_makes_all_right(
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


def test_a_replay_from_a_time_leaves_the_minutes_before_it_as_they_are(
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


def test_a_replay_from_an_offset_begins_with_the_first_minute_that_is_whole(
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


def test_what_comes_while_a_replay_runs_is_in_it_once(
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


def test_what_the_live_reader_reads_at_the_last_moment_is_in_a_replay_too(
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


def test_what_was_skipped_is_projected_if_it_can_be_now(
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


def test_a_replay_that_fails_changes_nothing_and_leaves_nothing(
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


def test_one_replay_runs_at_a_time(
    analytics_database: Sessions, replay: Callable[..., Rebuilt]
) -> None:
    with tables(analytics_database.kw["bind"]), pytest.raises(ReplayRunsError):
        replay("first")


def test_a_lost_connection_is_taken_up_again(broker: Vhost, analytics_database: Sessions) -> None:
    # given
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(broker.connect())
        return opened[-1]

    reader = Reader(analytics_database, connect)
    publish(broker, *order())
    read_until(reader, lambda: placed(analytics_database) == 1)

    # when
    with socket.socket(fileno=os.dup(opened[-1].connection.transport.sock.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    publish(broker, *order())

    # then
    read_until(reader, lambda: placed(analytics_database) == 2)
    assert len(opened) > 1
    reader.close()


# --- For operators ------------------------------------------------------------------------------


def test_orderctl_replays_and_says_what_it_did(
    broker: Vhost, migrated_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    runner = CliRunner()
    asked = ["analytics", "replay", "--from", "first"]
    refused = runner.invoke(main, asked, env=migrated_env)
    for name, value in migrated_env.items():
        monkeypatch.setenv(name, value)
    settings = load_operator(ReplaySettings)
    engine = db.create_engine(settings.service_url("analytics"))
    reader = Reader(db.sessions(engine), broker.connect)
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(db.sessions(engine), "inbox") == 2)
    reader.close()
    engine.dispose()

    # when
    text = runner.invoke(main, asked, env=migrated_env)
    document = runner.invoke(main, [*asked, "--json"], env=migrated_env)

    # then
    assert refused.exit_code == 1
    assert "nothing to replay: the reader has not read anything yet" in refused.stderr
    assert "everything rebuilt from 2 events, offsets 0 to 1" in text.stdout
    assert json.loads(document.stdout)["events"] == 2


@pytest.mark.parametrize("start", ["yesterday", "-1", "12:30"])
def test_a_start_that_is_none_is_refused(start: str, operator_env: dict[str, str]) -> None:
    asked = ["analytics", "replay", f"--from={start}"]

    done = CliRunner().invoke(main, asked, env=operator_env)

    assert done.exit_code == 64
    assert "is not first, an offset, or a time" in done.stderr
