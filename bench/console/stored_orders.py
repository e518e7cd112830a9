"""Orders of the past week in the databases of all services, as the services store them.

The database generates them. Ids are UUIDv7s: they increase with time, as in production.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from bench.load.backlog import order_confirmed, order_created
from bench.load.seeding import CHUNK, reserved
from bench.system.servers import Stored, execute
from common.kombu_topology import CONSUMERS
from eventbus.events import codec
from eventbus.events.envelope import Event

#: The orders of one customer.
OF_A_CUSTOMER = 5

#: The period in which the orders were placed, in days: all of them are within every retention.
DAYS = 7

#: Bytes on disk for each order, in all databases.
ROW_SIZE = 8_000

Log = Callable[[str], None]

# The ids of an order and of its events: the time, and a hash of the row's number and a name. Each
# OFFSET prevents the planner from computing a column again at each reference.
_NAMES = ("order", "created", "reserved", "confirmed")


def _id(name: str) -> str:
    digest = f"md5('{name}' || n)"
    return (
        f"(millisecond || '7' || substr({digest}, 1, 3) || 'a' || substr({digest}, 4, 15))::uuid"
        f" AS {name}_id"
    )


_PAST = f"""
SELECT n, moment, status, to_json(moment)::text AS time,
    'customer-' || n / {OF_A_CUSTOMER} || '@example.com' AS email,
    'BENCH-' || lpad((n % 20)::text, 2, '0') AS sku,
    'BENCH-' || lpad(((n + 7) % 20)::text, 2, '0') AS other_sku,
    {", ".join(map(_id, _NAMES))}
FROM (
    SELECT n, moment,
        CASE WHEN n % 25 = 0 THEN 'CANCELLED' WHEN n % 20 = 1 THEN 'SHIPPED' ELSE 'CONFIRMED' END
            AS status,
        lpad(to_hex(floor(extract(epoch FROM moment) * 1000)::bigint), 12, '0') AS millisecond
    FROM (
        SELECT n, CAST(:last_moment AS timestamptz)
            - interval '{DAYS} days' * (:rows - n) / :rows AS moment
        FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n OFFSET 0
    ) AS moments OFFSET 0
) AS parts OFFSET 0
"""


def _sent(name: str) -> str:
    # The lengths of the ids do not change, and the time is that of the order.
    envelope = f":{name}"
    for placeholder, column in (
        (f":{name}_id", f"{name}_id::text"),
        (":subject", "order_id::text"),
        (":email", "email"),
        (f":{name}_time", "trim('\"' from time)"),
    ):
        envelope = f"replace({envelope}, {placeholder}, {column})"
    return f"""
INSERT INTO outbox (event_id, type, subject, event, created_at, next_attempt_at, sent_at)
SELECT {name}_id, :{name}_type, order_id, {envelope},
    moment, moment, moment + interval '5 milliseconds'
FROM ({_PAST}) AS past
"""


def _handled(name: str) -> str:
    return f"""
INSERT INTO inbox (event_id, type, source, subject, attempts, occurred_at, handled_at)
SELECT {name}_id, :{name}_type, :{name}_source, order_id, 1, moment,
    moment + interval '20 milliseconds'
FROM ({_PAST}) AS past
"""


_ORDERS = f"""
INSERT INTO orders (
    id, customer_email, currency, status, reason, total, created_at, decided_at, shipped_at,
    deadline_at, sequence
)
SELECT order_id, email, 'EUR', status,
    CASE WHEN status = 'CANCELLED' THEN 'out_of_stock' END, 1000, moment,
    moment + interval '50 milliseconds',
    CASE WHEN status = 'SHIPPED' THEN moment + interval '5 minutes' END,
    moment + interval '15 minutes', 2
FROM ({_PAST}) AS past
"""
_LINES = f"""
INSERT INTO order_lines (order_id, position, sku, quantity, unit_price)
SELECT order_id, position, CASE position WHEN 1 THEN sku ELSE other_sku END, 1, 500
FROM ({_PAST}) AS past CROSS JOIN (VALUES (1), (2)) AS line (position)
"""
_RESERVATIONS = f"""
INSERT INTO reservations (order_id, status, sequence, created_at, updated_at)
SELECT order_id, 'RESERVED', 1, moment, moment FROM ({_PAST}) AS past
"""
_RESERVED = f"""
INSERT INTO reservation_lines (order_id, sku, quantity)
SELECT order_id, line.sku, 1
FROM ({_PAST}) AS past CROSS JOIN LATERAL (VALUES (past.sku), (past.other_sku)) AS line (sku)
"""
_NOTIFICATIONS = f"""
INSERT INTO notifications (
    order_id, kind, sequence, recipient, context, status, attempts, message_id, created_at, sent_at
)
SELECT order_id, 'received', 1, email, '{{}}', 'SENT', 1, '<' || order_id || '@example.com>',
    moment, moment + interval '100 milliseconds'
FROM ({_PAST}) AS past
"""
_PROJECTED = f"""
INSERT INTO orders (id, placed_at, currency, total, outcome, decided_at)
SELECT order_id, moment, 'EUR', 1000,
    CASE status WHEN 'CANCELLED' THEN 'REJECTED' ELSE status END,
    moment + interval '50 milliseconds'
FROM ({_PAST}) AS past
"""
_MINUTES = """
INSERT INTO minutes (
    minute, currency, placed, placed_total, confirmed, shipped, revenue, rejected, cancelled,
    decided, decision_microseconds
)
SELECT date_trunc('minute', placed_at), currency, count(*), sum(total), count(*), 0, sum(total),
    count(*) FILTER (WHERE outcome = 'REJECTED'), 0, count(*), 50000 * count(*)
FROM orders GROUP BY 1, 2 ON CONFLICT DO NOTHING
"""
_SKUS = """
INSERT INTO sku_minutes (minute, sku, currency, placed, pieces, confirmed, revenue)
SELECT minute, 'BENCH-' || lpad(n::text, 2, '0'), currency, placed, placed, confirmed, revenue
FROM minutes CROSS JOIN generate_series(0, 19) AS n ON CONFLICT DO NOTHING
"""

_UNDECIDED = """
UPDATE orders SET status = 'PENDING', reason = NULL, decided_at = NULL, shipped_at = NULL,
    deadline_at = now() + interval '1 day'
WHERE id IN (SELECT id FROM orders ORDER BY created_at DESC LIMIT :count)
RETURNING id
"""
_DECIDED = "UPDATE orders SET status = 'CONFIRMED', decided_at = now() WHERE status = 'PENDING'"

#: By service, the rows that an undecided order does not have.
_LATER = (
    ("order", "DELETE FROM outbox WHERE subject = ANY (:ids) AND type = 'order.confirmed'"),
    ("order", "DELETE FROM inbox WHERE subject = ANY (:ids)"),
    ("inventory", "DELETE FROM outbox WHERE subject = ANY (:ids)"),
    ("inventory", "DELETE FROM inbox WHERE subject = ANY (:ids)"),
)

#: The consumers without which the shop also works, all of which handle new orders.
OPTIONAL = tuple(
    service.name
    for service in CONSUMERS
    if service.name not in ("order", "inventory", "notification")
)

#: The statements of each service, once for each chunk of orders.
_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "order": (_ORDERS, _LINES, _sent("created"), _sent("confirmed"), _handled("reserved")),
    "inventory": (_RESERVATIONS, _RESERVED, _sent("reserved"), _handled("created")),
    "notification": (_NOTIFICATIONS, _handled("created"), _handled("confirmed")),
    "analytics": (_PROJECTED,),
    **{name: (_handled("created"),) for name in OPTIONAL},
}


def fill(system: Stored, orders: int, log: Log) -> None:
    """Store this many decided orders, and vacuum the tables."""
    # All services use the same time, because the ids are derived from it.
    last = datetime.now(UTC) - timedelta(minutes=10)
    with ThreadPoolExecutor(2) as pool:
        for filling in [
            pool.submit(_fill, system, each, orders, last, log) for each in _STATEMENTS
        ]:
            filling.result()
    for statement in (_MINUTES, _SKUS):
        execute(system, "analytics", statement)
    for service in _STATEMENTS:
        execute(system, service, "VACUUM (ANALYZE)")
    execute(system, "order", "CHECKPOINT")


def stick(system: Stored, count: int) -> None:
    """Make the newest orders PENDING, as if the inventory had handled none of their events."""
    ids = [order for (order,) in execute(system, "order", _UNDECIDED, count=count)]
    for service, statement in _LATER:
        execute(system, service, statement, ids=ids)


def decide(system: Stored) -> None:
    """Make every PENDING order CONFIRMED: the end of a measurement waits for its orders."""
    execute(system, "order", _DECIDED)


def _fill(system: Stored, service: str, orders: int, last_moment: datetime, log: Log) -> None:
    started, parameters = time.monotonic(), _parameters() | {"last_moment": last_moment}
    for first in range(1, orders + 1, CHUNK):
        last = min(first + CHUNK - 1, orders)
        for statement in _STATEMENTS[service]:
            execute(system, service, statement, first=first, last=last, rows=orders, **parameters)
        seconds = time.monotonic() - started
        log(f"{service}: {last:,} of {orders:,} orders stored in {seconds:.0f} s")


def _parameters() -> dict[str, object]:
    created = order_created(0)
    events = {"created": created, "confirmed": order_confirmed(0), "reserved": reserved()}
    parameters: dict[str, object] = {"subject": str(created.subject), "email": "ada@example.com"}
    for name, event in events.items():
        # All events are about one order.
        parameters |= _of_event(name, replace(event, subject=created.subject))
    return parameters


def _of_event(name: str, event: Event) -> dict[str, object]:
    envelope = codec.encode(event).decode()
    return {
        name: envelope,
        f"{name}_id": str(event.id),
        f"{name}_type": event.type,
        f"{name}_source": event.source,
        f"{name}_time": envelope.partition('"time":"')[2].partition('"')[0],
    }
