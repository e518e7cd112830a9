"""Millions of sent and handled events in the tables of the order service and the inventory.

The database generates them with all indexes in place. The ids are UUIDv7s, which increase with
time, so that the indexes grow at their right end, as in production.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from bench.load.backlog import order_created
from bench.system.servers import checkpoint, execute
from common.events import Quantity, StockReserved
from deploy.local.problem import Problem
from eventbus.events import codec
from eventbus.events.envelope import Event
from testkit.processes.stack import Stack

#: Rows of one statement; progress is printed between statements, every few seconds.
CHUNK = 250_000

#: Bytes on disk for each row, in all four tables with their indexes, and bytes that must be free in
#: addition: for the write-ahead log, the broker and the measurements.
ROW_SIZE = 2_300
RESERVE = 4_000_000_000

#: Milliseconds between two events of the past.
_STEP = 50

#: For this many old events, one order and one reservation remain. Without them, these tables would
#: be empty, unlike those of an old system, and the planner would look up the order of each new line
#: by a sequential scan.
EVENTS_FOR_ONE_ORDER = 10

_TABLES = {
    "order": ("outbox", "inbox", "orders"),
    "inventory": ("outbox", "inbox", "reservations"),
}

# The ids contain that moment, and tails that are derived from the row's number. Each OFFSET
# prevents the planner from computing an id again at each reference, which would take most of the
# time.
_PAST = f"""
SELECT n, moment,
    (millisecond || '7' || substr(tail, 1, 3) || 'a' || substr(tail, 4, 15))::uuid AS event_id,
    (millisecond || '7' || substr(tail, 15, 3) || 'b' || substr(tail, 18, 15))::uuid AS subject
FROM (
    SELECT n, moment, md5(n::text) AS tail,
        lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') AS millisecond
    FROM (
        SELECT n,
            now() - (:rows - n) * interval '{_STEP} milliseconds' - interval '1 hour' AS moment
        FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n OFFSET 0
    ) AS moments OFFSET 0
) AS parts OFFSET 0
"""
_SENT = f"""
INSERT INTO outbox (event_id, type, subject, event, created_at, next_attempt_at, sent_at)
SELECT event_id, :type, subject,
    replace(replace(:envelope, :event_id, event_id::text), :subject, subject::text),
    moment, moment, moment + interval '5 milliseconds'
FROM ({_PAST}) AS past
"""
_HANDLED = f"""
INSERT INTO inbox (
    event_id, type, source, subject, attempts, traceparent, causationid, occurred_at, handled_at
)
SELECT event_id, :type, :source, subject, 1,
    '00-' || md5('trace' || n) || '-' || substr(md5('span' || n), 1, 16) || '-01',
    subject, moment, moment + interval '20 milliseconds'
FROM ({_PAST}) AS past
"""

_ORDERS = f"""
INSERT INTO orders (
    id, customer_email, currency, status, total, created_at, decided_at, deadline_at, sequence
)
SELECT subject, 'ada@example.com', 'EUR', 'CONFIRMED', 1000,
    moment, moment + interval '50 milliseconds', moment + interval '15 minutes', 2
FROM ({_PAST}) AS past
"""
_RESERVATIONS = f"""
INSERT INTO reservations (order_id, status, sequence, created_at, updated_at)
SELECT subject, 'RESERVED', 1, moment, moment FROM ({_PAST}) AS past
"""
_SQL = {"outbox": _SENT, "inbox": _HANDLED, "orders": _ORDERS, "reservations": _RESERVATIONS}


def require_space(place: Path, rows: int, size: int = ROW_SIZE) -> None:
    """Require disk space for this many rows of `size` bytes; raises `Problem` if less is free."""
    free, needed = shutil.disk_usage(place).free, rows * size + RESERVE
    if free < needed:
        raise Problem(
            f"the disk of {place} has {free / 1e9:.0f} GB free, {rows:,} rows in each table"
            f" need {needed / 1e9:.0f} GB: make room, or measure with fewer"
            " (--rows, --orders-stored)"
        )


@contextmanager
def past(stack: Stack, rows: int, log: Callable[[str], None]) -> Iterator[None]:
    """Fill each outbox and inbox with this many old events during the block."""
    try:
        # The tables are filled in parallel, because each database uses its own process.
        with ThreadPoolExecutor(len(_TABLES)) as pool:
            for filling in [
                pool.submit(_fill_tables, stack, service, rows, log) for service in _TABLES
            ]:
                filling.result()
        for service, table in _all_tables():
            started = time.monotonic()
            execute(stack, service, f"VACUUM (ANALYZE) {table}")
            log(f"{service} {table}: vacuumed in {time.monotonic() - started:.0f} s")
        checkpoint(stack)
        yield
    finally:
        # A failed run leaves its logs, but must not leave gigabytes.
        for service, table in _all_tables():
            execute(stack, service, f"TRUNCATE {table} CASCADE")


def _all_tables() -> Iterator[tuple[str, str]]:
    return ((service, table) for service, tables in _TABLES.items() for table in tables)


def _fill_tables(stack: Stack, service: str, rows: int, log: Callable[[str], None]) -> None:
    for table in _TABLES[service]:
        _fill(stack, service, table, rows, log)


def _fill(stack: Stack, service: str, table: str, rows: int, log: Callable[[str], None]) -> None:
    # The events of the order service are those that the inventory handles, and vice versa.
    is_created = (service == "order") == (table == "outbox")
    event = order_created(0) if is_created else reserved()
    parameters: dict[str, object] = {
        "type": event.type,
        "source": event.source,
        "envelope": codec.encode(event).decode(),
        "event_id": str(event.id),
        "subject": str(event.subject),
    }
    if table not in ("outbox", "inbox"):
        rows //= EVENTS_FOR_ONE_ORDER
    started = logged = time.monotonic()
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        execute(stack, service, _SQL[table], first=first, last=last, rows=rows, **parameters)
        now = time.monotonic()
        if last == rows or now - logged > 10:
            logged = now
            log(f"{service} {table}: {last:,} of {rows:,} rows in {now - started:.0f} s")


def reserved() -> Event:
    """Return the event that reserves the stock of such an order."""
    cause = order_created(0)
    lines = tuple(Quantity(sku=line.sku, quantity=1) for line in cause.data.lines)  # type: ignore[attr-defined]
    return Event(
        source="inventory",
        subject=cause.subject,
        sequence=1,
        causationid=cause.id,
        data=StockReserved(lines=lines),
    )
