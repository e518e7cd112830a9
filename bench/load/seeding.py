"""Millions of sent events and of handled ones, in the tables of the order service and inventory.

Made by the database itself, with all indexes in place: the ids are UUIDv7s, which rise with time,
so that the indexes grow at their right end, as in earnest.
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

#: Rows of one statement; after each there is a line of progress every few seconds.
CHUNK = 250_000

#: Bytes on disk for each of the rows, in all four tables with their indexes, and what else must be
#: free: for the write-ahead log, the broker and whatever is measured.
ROW_SIZE = 2_300
RESERVE = 4_000_000_000

#: Milliseconds between two events of the past.
_STEP = 50

#: Of so many old events one more has its order, and its reservation, still there. Without any,
#: these tables would be what no old system's are: empty, and known to be so by the planner, which
#: then looks for each new line's order by reading all of them.
EVENTS_FOR_ONE_ORDER = 10

_TABLES = {
    "order": ("outbox", "inbox", "orders"),
    "inventory": ("outbox", "inbox", "reservations"),
}

# Ids of that moment, their tails made of the row's number. Each OFFSET keeps the planner from
# making an id anew wherever it stands, which takes most of the time.
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


def require_space(place: Path, rows: int) -> None:
    """Check that this disk can take so many rows in each table; raises `Problem` if not."""
    free, needed = shutil.disk_usage(place).free, rows * ROW_SIZE + RESERVE
    if free < needed:
        raise Problem(
            f"the disk of {place} has {free / 1e9:.0f} GB free, {rows:,} rows in each table"
            f" need {needed / 1e9:.0f} GB: make room, or measure with fewer (--rows)"
        )


@contextmanager
def past(stack: Stack, rows: int, tell: Callable[[str], None]) -> Iterator[None]:
    """Let a past of so many events stand in each outbox and inbox while the block lasts."""
    try:
        # Side by side: each database has a process of its own for it.
        with ThreadPoolExecutor(len(_TABLES)) as pool:
            for filled in [
                pool.submit(_fill_tables, stack, service, rows, tell) for service in _TABLES
            ]:
                filled.result()
        for service, table in _all_tables():
            began = time.monotonic()
            execute(stack, service, f"VACUUM (ANALYZE) {table}")
            tell(f"{service} {table}: vacuumed in {time.monotonic() - began:.0f} s")
        checkpoint(stack)
        yield
    finally:
        # What a failed run leaves for a look at its logs must not be gigabytes.
        for service, table in _all_tables():
            execute(stack, service, f"TRUNCATE {table} CASCADE")


def _all_tables() -> Iterator[tuple[str, str]]:
    return ((service, table) for service, tables in _TABLES.items() for table in tables)


def _fill_tables(stack: Stack, service: str, rows: int, tell: Callable[[str], None]) -> None:
    for table in _TABLES[service]:
        _fill(stack, service, table, rows, tell)


def _fill(stack: Stack, service: str, table: str, rows: int, tell: Callable[[str], None]) -> None:
    # What the order service sends the inventory handles, and the other way round.
    is_created = (service == "order") == (table == "outbox")
    event = order_created(0) if is_created else _reserved()
    about: dict[str, object] = {
        "type": event.type,
        "source": event.source,
        "envelope": codec.encode(event).decode(),
        "event_id": str(event.id),
        "subject": str(event.subject),
    }
    if table not in ("outbox", "inbox"):
        rows //= EVENTS_FOR_ONE_ORDER
    began = told = time.monotonic()
    for first in range(1, rows + 1, CHUNK):
        last = min(first + CHUNK - 1, rows)
        execute(stack, service, _SQL[table], first=first, last=last, rows=rows, **about)
        now = time.monotonic()
        if last == rows or now - told > 10:
            told = now
            tell(f"{service} {table}: {last:,} of {rows:,} rows in {now - began:.0f} s")


def _reserved() -> Event:
    cause = order_created(0)
    lines = tuple(Quantity(sku=line.sku, quantity=1) for line in cause.data.lines)  # type: ignore[attr-defined]
    return Event(
        source="inventory",
        subject=cause.subject,
        sequence=1,
        causationid=cause.id,
        data=StockReserved(lines=lines),
    )
