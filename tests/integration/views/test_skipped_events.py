"""Messages that the reader cannot project, and offsets that the stream no longer has."""

from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import select, text

from analytics_worker import figures, stream_reader
from analytics_worker.models import SkippedRow
from analytics_worker.stream_reader import Reader
from common.events import Line, OrderConfirmed, OrderCreated, StockReserved
from common.kombu_topology import EVENTS, STREAM, stream
from eventbus.database.db import Sessions, transaction
from testkit.data.projections import (
    CONFIRMED,
    ORDERED,
    count,
    event,
    minutes,
    order,
    placed,
    publish,
    read_until,
    skus,
)
from testkit.servers.vhosts import Vhost


def test_a_message_that_is_not_an_event_is_skipped_with_a_reason(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given four messages that are not events, between two orders
    publish(broker, *order())
    for body in (b"\xff", b"{}", b"[1]", b'[[],{"event":{"type":"order.created"}},{}]'):
        broker.publish(body, exchange=EVENTS.name, routing_key="order.created", headers={})
    publish(broker, *order())

    # When the reader has read the orders
    read_until(reader, lambda: placed(analytics_database) == 2)

    # Then each message is skipped with its reason
    with transaction(analytics_database) as session:
        skipped = session.scalars(select(SkippedRow).order_by(SkippedRow.stream_offset)).all()
    assert len(skipped) == 4
    assert all(row.reason.startswith("not an event: ") for row in skipped)
    assert skipped[1].body == "{}"


def test_an_event_that_the_database_rejects_is_skipped_alone(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given an event that a constraint rejects, in the middle of a batch
    with transaction(analytics_database) as session:
        session.execute(text("ALTER TABLE orders ADD CHECK (total <> 13)"))
    rejected = OrderCreated(**(ORDERED | {"total": 13}))
    publish(broker, *order(), event(rejected, uuid4()), *order())

    # When the reader has read the other orders
    read_until(reader, lambda: placed(analytics_database) == 2)

    # Then only that event is skipped
    assert count(analytics_database, "skipped_events") == 1
    assert count(analytics_database, "orders") == 2


def test_sums_above_bigint_are_counted(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given confirmed orders of the largest total, all in one minute
    large = {"total": 10**18, "lines": (Line(sku="TEA", quantity=10**6, unit_price=10**12),)}
    for _ in range(12):
        order_id = uuid4()
        placed_, confirmed = OrderCreated(**(ORDERED | large)), OrderConfirmed(**(ORDERED | large))
        publish(broker, event(placed_, order_id), event(confirmed, order_id))

    # When the reader has read them
    read_until(reader, lambda: count(analytics_database, "inbox") == 24)

    # Then their sums are exact
    assert minutes(analytics_database)[0][2:6] == (12, 12 * 10**18, 12, 12 * 10**18)
    assert skus(analytics_database)[0][2:] == (12, 12 * 10**6, 12, 12 * 10**18)
    assert count(analytics_database, "skipped_events") == 0
    with transaction(analytics_database) as session:
        (sales,) = figures.by_sku(session, timedelta(days=36_500), 10)
    assert sales.revenue == 12 * 10**18


def test_an_order_with_an_unknown_outcome_never_changes(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    # Given an order with an outcome that this release does not define
    events = order(CONFIRMED)
    publish(broker, events[0])
    read_until(reader, lambda: placed(analytics_database) == 1)
    with transaction(analytics_database) as session:
        session.execute(text("UPDATE orders SET outcome = 'RETURNED'"))
    before = minutes(analytics_database)

    # When the order is confirmed
    publish(broker, events[1], *order())
    read_until(reader, lambda: placed(analytics_database) == 2)

    # Then its figures are unchanged
    assert before[0][2:6] == (1, 1900, 0, 0)
    assert minutes(analytics_database)[0][2:6] == (2, 3800, 0, 0)
    assert count(analytics_database, "skipped_events") == 0


def test_an_event_of_an_unknown_order_is_skipped(
    broker: Vhost, reader: Reader, analytics_database: Sessions
) -> None:
    publish(broker, event(CONFIRMED, order_id := uuid4()), *order(StockReserved(lines=())))

    read_until(reader, lambda: placed(analytics_database) == 1)

    with transaction(analytics_database) as session:
        (row,) = session.scalars(select(SkippedRow))
    assert (row.order_id, row.type, row.reason) == (
        order_id,
        "order.confirmed",
        "order.created was not read",
    )


def test_a_recreated_stream_is_read_from_the_start_with_a_gap(
    broker: Vhost, analytics_database: Sessions
) -> None:
    # Given a broker that has lost its data
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

    # When an old event and a new order are published
    publish(broker, old[0], *order())
    read_until(reader, lambda: placed(analytics_database) == 2)
    reader.close()

    # Then both are read, and the gap is recorded
    assert count(analytics_database, "stream_gaps") == 1
    assert count(analytics_database, "orders") == 2


def test_deleted_offsets_are_recorded_as_a_gap(
    broker: Vhost, reader: Reader, analytics_database: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a reader at offset 0, and a stream that starts at offset 2
    publish(broker, *order(), *order(), *order())
    with transaction(analytics_database) as session:
        session.execute(
            text("INSERT INTO stream_position (id, stream_offset, message_id) VALUES (1, 0, 'x')")
        )
    real = stream_reader.Stream
    monkeypatch.setattr(
        stream_reader, "Stream", lambda connection, name, _: real(connection, name, 2)
    )

    # When the reader reads
    read_until(reader, lambda: placed(analytics_database) == 1)

    # Then it records the missing offset as a gap
    with transaction(analytics_database) as session:
        gap = session.execute(text("SELECT first_offset, last_offset FROM stream_gaps")).one()
    assert tuple(gap) == (1, 1)
