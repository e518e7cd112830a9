"""The table of judgements: orders are recorded, and then orders whose counts changed are judged.

An order that arrives late also counts for the orders placed after it, so these orders are judged
again. The set of suspected orders does not depend on the order in which events arrive.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.orm import Session

from common.events import OrderCreatedV2
from eventbus.database.statement import Statement, packed
from eventbus.events.envelope import Event
from fraud_worker.domain import Facts, Limits, customer_of, network_of

#: The key of the lock that admits one batch at a time, because two concurrent batches would not
#: count each other's orders. The number is arbitrary, and unique among the locks of this database.
_LOCK = Statement("lock_judgements", "SELECT pg_advisory_xact_lock($1)", "bigint")
_LOCK_KEY = 6_027_441_290

# A second event of the same order, with a different id, is not a second order.
_RECORD = Statement(
    "record_judgements",
    """
    INSERT INTO judgements (
        order_id, placed_at, customer_email, customer, client_ip, network, currency, total, pieces,
        skus, event_id, traceparent, replayed
    )
    SELECT
        order_id, placed_at, customer_email, customer, client_ip, network, currency, total, pieces,
        skus, event_id, traceparent, replayed
    FROM json_to_recordset($1) AS row (
        order_id uuid, placed_at timestamptz, customer_email text, customer text, client_ip text,
        network text, currency text, total bigint, pieces bigint, skus integer, event_id uuid,
        traceparent text, replayed boolean
    )
    ON CONFLICT DO NOTHING
    RETURNING order_id
    """,
    "json",
)

# Counts end at one above the limit, so their cost does not depend on the number of orders in a
# window. If as many orders are between the new order and a later order, the later order is not
# counted again, because it was above the limit before.
_AFFECTED = Statement(
    "affected_judgements",
    """
    WITH fresh AS (
        SELECT order_id, placed_at, customer, network FROM judgements WHERE order_id = ANY ($1)
    ), affected AS (
        SELECT order_id FROM fresh
        UNION
        SELECT later.order_id FROM fresh CROSS JOIN LATERAL (
            SELECT other.order_id FROM judgements AS other
            WHERE other.customer = fresh.customer
                AND other.placed_at >= fresh.placed_at
                AND other.placed_at < fresh.placed_at + $2
            ORDER BY other.placed_at LIMIT $3 + 1
        ) AS later
        UNION
        SELECT later.order_id FROM fresh CROSS JOIN LATERAL (
            SELECT other.order_id FROM judgements AS other
            WHERE other.network = fresh.network
                AND other.placed_at >= fresh.placed_at
                AND other.placed_at < fresh.placed_at + $2
            ORDER BY other.placed_at LIMIT $4 + 1
        ) AS later
    )
    SELECT
        order_id, customer_email, client_ip, currency, total, pieces, skus, event_id, traceparent,
        replayed,
        (SELECT count(*) FROM (
            SELECT FROM judgements AS other
            WHERE other.customer = judged.customer
                AND other.placed_at > judged.placed_at - $2
                AND other.placed_at <= judged.placed_at
            LIMIT $3 + 1
        ) AS counted) AS email_orders,
        (SELECT count(*) FROM (
            SELECT FROM judgements AS other
            WHERE other.network = judged.network
                AND other.placed_at > judged.placed_at - $2
                AND other.placed_at <= judged.placed_at
            LIMIT $4 + 1
        ) AS counted) AS ip_orders
    FROM affected JOIN judgements AS judged USING (order_id)
    WHERE NOT judged.suspected
    ORDER BY judged.placed_at, order_id
    """,
    "uuid[]",
    "interval",
    "integer",
    "integer",
)

_SUSPECT = Statement(
    "suspect_judgements",
    "UPDATE judgements SET suspected = true WHERE order_id = ANY ($1)",
    "uuid[]",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An order that is not suspected yet, with the current input of the rules."""

    order_id: UUID
    customer_email: str
    client_ip: str | None
    event_id: UUID
    traceparent: str | None
    replayed: bool
    facts: Facts


def record(session: Session, created: Iterable[Event]) -> list[UUID]:
    """Record orders, and return the new orders. Other batches wait until the commit."""
    _LOCK.run_with_next(session, _LOCK_KEY)
    recorded = _RECORD.run(session, packed(_row(event) for event in created))
    return list(recorded.scalars())


def candidates(session: Session, fresh: Sequence[UUID], limits: Limits) -> list[Candidate]:
    """Return these orders and the orders for which they count, except suspected orders."""
    rows = _AFFECTED.run(
        session, _array(fresh), limits.window, limits.email_orders, limits.ip_orders
    )
    return [
        Candidate(
            order_id=row.order_id,
            customer_email=row.customer_email,
            client_ip=row.client_ip,
            event_id=row.event_id,
            traceparent=row.traceparent,
            replayed=row.replayed,
            facts=Facts(
                currency=row.currency,
                total=row.total,
                pieces=row.pieces,
                skus=row.skus,
                email_orders=row.email_orders,
                ip_orders=row.ip_orders,
            ),
        )
        for row in rows
    ]


def suspect(session: Session, order_ids: Sequence[UUID]) -> None:
    """Mark these orders as suspected, so that they are not judged again."""
    _SUSPECT.run_with_next(session, _array(order_ids))


def _array(ids: Iterable[UUID]) -> str:
    return "{" + ",".join(map(str, ids)) + "}"


def _row(event: Event) -> dict[str, object]:
    data = event.data
    assert isinstance(data, OrderCreatedV2)  # noqa: S101  # ensured by HANDLERS
    return {
        "order_id": event.subject,
        "placed_at": event.time,
        "customer_email": data.customer.email,
        "customer": customer_of(data.customer.email),
        "client_ip": data.client_ip,
        "network": network_of(data.client_ip),
        "currency": data.total.currency,
        "total": data.total.amount,
        "pieces": sum(line.quantity for line in data.lines),
        "skus": len({line.sku for line in data.lines}),
        "event_id": event.id,
        "traceparent": event.traceparent,
        "replayed": event.replayed,
    }
