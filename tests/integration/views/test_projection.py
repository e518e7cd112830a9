"""The projections: each event counts once, in the minute in which its order was placed."""

import os
import socket
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kombu.connection import Connection
from sqlalchemy import text

from analytics_worker import figures, projection, stream_reader
from analytics_worker.stream_reader import Reader
from common.bus import STREAM
from common.events import Data
from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.messaging.stream import Entry, Stream
from testkit.data.projections import (
    AT,
    CONFIRMED,
    MINUTE,
    cancelled,
    count,
    minutes,
    order,
    placed,
    publish,
    read_until,
    skus,
)
from testkit.eventually import eventually
from testkit.servers.vhosts import Vhost


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        ((), (1, 1900, 0, 0, 0, 0, 0, 0)),
        ((CONFIRMED,), (1, 1900, 1, 1900, 0, 0, 1, 1_000_000)),
        ((cancelled("out_of_stock"),), (1, 1900, 0, 0, 1, 0, 1, 1_000_000)),
        ((cancelled("deadline"),), (1, 1900, 0, 0, 0, 1, 0, 0)),
        # Its revenue is subtracted; the decision stays counted.
        ((CONFIRMED, cancelled("customer")), (1, 1900, 0, 0, 0, 1, 1, 1_000_000)),
    ],
    ids=["placed", "confirmed", "rejected", "past its deadline", "confirmed and cancelled"],
)
def test_an_order_counts_in_the_minute_in_which_it_was_placed(
    broker: Vhost,
    reader: Reader,
    analytics_database: Sessions,
    after: tuple[Data, ...],
    expected: tuple[int, ...],
) -> None:
    # Given an order whose events cross a minute
    events = order(*after, at=44)
    publish(broker, *events)

    # When the reader has read them
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))

    # Then all figures are in the minute in which it was placed
    assert minutes(analytics_database) == [(MINUTE, "EUR", *expected)]
    confirmed = expected[2]
    assert skus(analytics_database) == [
        (MINUTE, "CUP", 1, 1, confirmed, 900 * confirmed),
        (MINUTE, "TEA", 1, 2, confirmed, 1000 * confirmed),
    ]


def test_the_sales_figures_follow_from_the_projections(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # Given three confirmed orders and a rejected one
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

    # When the figures of the last hour are requested
    with transaction(analytics_database) as session:
        (sales,) = figures.in_all(session, timedelta(hours=1))
        top, other = figures.by_sku(session, timedelta(hours=1), 5)
        future = figures.by_minute(session, timedelta(seconds=-120), 10)

    # Then they are derived from all four orders
    assert (sales.placed, sales.revenue) == (4, 5700)
    assert sales.rejection_rate == 0.25
    assert sales.seconds_to_decision == pytest.approx(1.0)
    assert [(s.sku, s.pieces, s.revenue) for s in (top, other)] == [
        ("TEA", 8, 3000),
        ("CUP", 4, 2700),
    ]
    assert future == []


def test_a_duplicate_event_in_the_stream_counts_once(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given duplicates, as left by a relay that crashes between publish and mark
    events = order(CONFIRMED, cancelled("customer"))
    publish(broker, *events, *events[:2])
    publish(broker, *(last := order()))

    # When the reader has read all of them
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events + last))

    # Then the duplicates restore neither the order nor its revenue
    assert minutes(analytics_database)[0][2:8] == (2, 3800, 0, 0, 0, 1)


def test_a_crashed_reader_neither_skips_nor_repeats_events(
    broker: Vhost,
    analytics_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given small batches, and a crash at the end of each transaction before its commit
    monkeypatch.setattr(stream_reader, "BATCH", 3)
    events = [e for n in range(10) for e in order(CONFIRMED, at=n)]
    publish(broker, *events)
    project, crashes_left = projection.project, iter(range(4))

    def crashes(session: Any, entries: Any, **options: Any) -> None:
        project(session, entries, **options)
        if next(crashes_left, None) is not None:
            raise KeyboardInterrupt

    monkeypatch.setattr(stream_reader, "project", crashes)

    # When four readers crash and a fifth reads on
    for _ in range(4):
        reader = Reader(analytics_database, broker.connect)
        with pytest.raises(KeyboardInterrupt):
            reader.read(time.monotonic() + 30)
        reader.close()
    reader = Reader(analytics_database, broker.connect)
    read_until(reader, lambda: count(analytics_database, "inbox") == len(events))
    reader.close()

    # Then each event counts once
    assert minutes(analytics_database) == [
        (MINUTE, "EUR", 10, 19_000, 10, 19_000, 0, 0, 10, 10_000_000)
    ]


def test_a_pruned_inbox_does_not_repeat_events(broker: Vhost, analytics_database: Sessions) -> None:
    # Given events that were read, and an inbox that was pruned afterwards
    publish(broker, *order(CONFIRMED))
    first = Reader(analytics_database, broker.connect)
    read_until(first, lambda: count(analytics_database, "inbox") == 2)
    first.close()
    with transaction(analytics_database) as session:
        session.execute(text("DELETE FROM inbox"))

    # When another reader starts
    publish(broker, *order())
    second = Reader(analytics_database, broker.connect)
    read_until(second, lambda: placed(analytics_database) == 2)
    second.close()

    # Then it reads only the new event
    assert count(analytics_database, "inbox") == 1
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 1, 1900)


def test_a_second_reader_waits_for_the_first(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given a reader that holds the lock
    publish(broker, *order())
    with engine_of(analytics_database).connect() as other:
        other.execute(text("SELECT pg_advisory_lock(hashtext('stream_position'))"))

        # When a second reader tries to read
        reader.read(time.monotonic() + 0.5)

        # Then it reads nothing until the lock is free
        assert placed(analytics_database) == 0
        other.execute(text("SELECT pg_advisory_unlock_all()"))

    read_until(reader, lambda: placed(analytics_database) == 1)


def test_a_stream_that_is_away_costs_one_connection_at_a_time(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # Given a broker without the stream
    broker.request("DELETE", f"/queues/{broker.name}/{STREAM}")
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(broker.connect())
        return opened[-1]

    # When a reader tries to open it repeatedly
    reader = Reader(analytics_database, connect)
    eventually(lambda: _attempt(reader, opened, 3))

    # Then no connection is left
    assert not any(connection.connected for connection in opened)


def _attempt(reader: Reader, opened: list[Connection], attempts: int) -> None:
    reader.read(time.monotonic() + 0.1)
    assert len(opened) >= attempts


def test_a_reader_reconnects_after_a_lost_connection(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # Given a connected reader
    opened: list[Connection] = []

    def connect() -> Connection:
        opened.append(broker.connect())
        return opened[-1]

    reader = Reader(analytics_database, connect)
    publish(broker, *order())
    read_until(reader, lambda: placed(analytics_database) == 1)

    # When its connection is lost
    with socket.socket(fileno=os.dup(opened[-1].connection.transport.sock.fileno())) as wire:
        wire.shutdown(socket.SHUT_RDWR)
    publish(broker, *order())

    # Then it reconnects and reads on
    read_until(reader, lambda: placed(analytics_database) == 2)
    assert len(opened) > 1
    reader.close()


class _Silent(Stream):
    """A stream whose broker takes its time."""

    def read(self, limit: int, timeout: float) -> Sequence[Entry]:
        return ()


def test_a_slow_broker_is_not_taken_for_another_stream(
    broker: Vhost,
    analytics_database: Sessions,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a position, and a reader that has waited long for the message at it
    first = Reader(analytics_database, broker.connect)
    publish(broker, *order(CONFIRMED))
    read_until(first, lambda: count(analytics_database, "inbox") == 2)
    first.close()
    reader = Reader(analytics_database, broker.connect)
    with monkeypatch.context() as slow:
        slow.setattr(stream_reader, "SILENCE", -1.0)
        slow.setattr(stream_reader, "Stream", _Silent)
        reader.read(time.monotonic() + 0.1)
    reader.close()

    # When the broker delivers again
    publish(broker, *order(CONFIRMED))
    read_until(reader, lambda: count(analytics_database, "inbox") == 4)

    # Then the reader has continued
    assert "stream replaced" not in caplog.messages
    assert count(analytics_database, "stream_gaps") == 0
    reader.close()
