"""Orders, traces, stock and sales in the web console."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from flask.testing import FlaskClient
from sqlalchemy import create_engine, pool, text

from analytics_worker.models import MinuteRow, PositionRow, SkippedRow, SkuMinuteRow
from common.kombu_topology import ANALYTICS
from console.actions.stock_import import import_pieces
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from inventory_worker.movements import Note
from testkit.processes.web_console import HOSTILE, get, place
from testkit.servers.databases import service_url


def test_an_order_is_shown_with_its_events(
    console: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given an order
    order_id = place(installation())

    # When it and an unknown order are requested
    html = get(console, "/orders", id=str(order_id)).text
    unknown = get(console, "/orders", id=str(uuid4()))

    # Then the order is shown with its lines and events
    assert 'class="badge pending">PENDING' in html
    assert "2 \N{MULTIPLICATION SIGN} TEA" in html
    assert "order.created" in html
    assert '<span class="bad">not yet</span>' in html
    assert "No spans of this order" in html
    assert "does not exist" in unknown.text


def test_the_trace_of_an_order_is_drawn(
    console: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given an order with two spans, of which one failed
    settings = installation()
    order_id = place(settings)
    engine = create_engine(service_url(settings, "trace"), poolclass=pool.NullPool)
    with engine.begin() as connection:
        for span_id, parent, reason in (("a", None, None), ("b", "a", HOSTILE)):
            connection.execute(
                text(
                    "INSERT INTO spans (trace_id, span_id, parent_id, service, name, kind,"
                    " started_at, microseconds, status, reason, order_id, attributes) VALUES"
                    " (repeat('0', 32), :span, :parent, 'order-worker', 'process', 'server',"
                    " now(), 5000, :status, :reason, :order, '{\"attempt\": 1}')"
                ),
                {
                    "span": span_id,
                    "parent": parent,
                    "status": "error" if reason else "unset",
                    "reason": reason,
                    "order": str(order_id),
                },
            )

    # When the order is shown
    html = get(console, "/orders", id=str(order_id)).text

    # Then its trace is drawn, with the failure escaped
    assert html.count("<rect ") == 2
    assert '<rect class="bad"' in html
    assert 'class="depth-1"' in html
    assert "attempt 1, &lt;script&gt;" in html


def test_stock_is_a_table_with_a_note_when_it_is_empty(
    console: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given an empty inventory, and then two counted SKUs
    settings = installation()
    empty = get(console, "/stock").text
    note = Note(reason="counted", reference="C-1", entered_by="tests")
    import_pieces(settings, {"TEA-1": 12_000, "POT-1": 0}, note)

    # When stock and a filter are requested
    full, some_of_it = get(console, "/stock").text, get(console, "/stock", sku="tea").text

    # Then the levels are listed, and an empty result is explained
    assert "Nothing is in stock yet" in empty
    rows = re.findall(r'<th scope="row">(.*?)</th><td class="number">(.*?)</td>', full)
    assert rows == [("POT-1", "0"), ("TEA-1", "12\N{NARROW NO-BREAK SPACE}000")]
    assert "POT-1" not in some_of_it
    assert "No SKU contains" in get(console, "/stock", sku="kettle").text
    one = get(console, "/stock", sku="TEA-1").text
    assert "count 12\N{NARROW NO-BREAK SPACE}000" in one
    assert "C-1" in one


def test_sales_are_shown_for_the_hour_and_for_the_day(
    console: FlaskClient, installation: Callable[[], DatabaseSettings]
) -> None:
    # Given no figures, and then figures of two minutes and an earlier hour
    settings = installation()
    nothing = get(console, "/analytics").text
    sell(settings)

    # When the hour and the day are requested
    hour, day = get(console, "/analytics").text, get(console, "/analytics", span="day").text

    # Then the page without figures explains why
    assert "Nothing has been read from the stream yet." in nothing
    assert "No orders were placed in this period." in nothing
    # And the others show their period, their currencies and the skipped message
    assert re.findall(r'<h2 id="in-(\w+)">', hour) == ["EUR"]
    assert re.findall(r'<h2 id="in-(\w+)">', day) == ["EUR", "USD"]
    tiles = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", hour))
    assert tiles == {
        "placed": "5",
        "confirmed": "3",
        "shipped": "0",
        "revenue": "EUR 60.00",
        "rejected": "1",
        "rejection rate": "25.0 %",
        "time to decision": "2 s",
    }
    minutes = re.findall(r'data-label="placed">(\d+)</td>', hour)
    assert minutes == ["3", "2"]
    skus = re.findall(r'scope="row">(CUP|TEA)</th>.*?data-label="units">(\d+)<', hour, re.DOTALL)
    assert skus == [("TEA", "8"), ("CUP", "1")]
    assert "1 messages of the stream are not in the figures" in hour
    assert "behind:" not in hour


def sell(settings: DatabaseSettings) -> None:
    """Store figures of two minutes of this hour and of an earlier one, and a skipped message."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    names = ("placed", "placed_total", "confirmed", "revenue", "rejected", "cancelled", "decided")
    minutes = (
        (timedelta(minutes=1), "EUR", (3, 8000, 2, 4000, 1, 0, 3)),
        (timedelta(minutes=2), "EUR", (2, 3000, 1, 2000, 0, 1, 1)),
        (timedelta(hours=3), "USD", (1, 500, 0, 0, 0, 0, 0)),
    )
    skus = (
        (timedelta(minutes=1), "TEA", (3, 6, 2, 3500)),
        (timedelta(minutes=2), "TEA", (2, 2, 1, 2000)),
        (timedelta(minutes=1), "CUP", (1, 1, 1, 500)),
    )
    with transaction(settings, ANALYTICS) as session:
        for ago, currency, figures in minutes:
            counted = dict(zip(names, figures, strict=True))
            waited = counted["decided"] * 2_000_000
            session.add(
                MinuteRow(
                    minute=now - ago, currency=currency, decision_microseconds=waited, **counted
                )
            )
        for ago, sku, figures in skus:
            counted = dict(zip(("placed", "pieces", "confirmed", "revenue"), figures, strict=True))
            session.add(SkuMinuteRow(minute=now - ago, sku=sku, currency="EUR", **counted))
        session.add(PositionRow(id=1, stream_offset=7, message_id="e-1"))
        session.add(SkippedRow(stream_offset=3, reason="no event", body="{}"))
