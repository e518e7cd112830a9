"""Intake of new orders, with their lines, events and idempotency keys, in one statement.

Every order passes through the intake, so it is optimized for speed: one round trip to the database
for all orders of a group, with a statement that each connection plans once. The ORM would cost
several times as much. The rows are sent as one JSON text, because a parameter per column would be
more expensive for both sides.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Connection

from eventbus.database import db
from eventbus.database.statement import Statement, packed
from eventbus.events import codec
from eventbus.events.envelope import Event
from order_app import domain
from order_app.domain import Draft, Order
from order_app.settings import ApiSettings
from order_app.storage.idempotency import Claim

#: The name of the Flask-SQLAlchemy bind with the intake's separate connections.
BIND = "intake"

#: The database sets the times of an order and its event, so all processes that accept orders use a
#: single clock. `replace` sets the time of an event that is `UNDATED` (`order_app.events`). It can
#: match only the field in the JSON text, because quotes in strings are escaped.
#:
#: `fresh` contains the orders without a key, or whose key is not claimed yet under any API key of
#: the client. If two requests have the same key, the second waits for the commit of the first, or
#: follows it in the same group. Groups claim keys in sorted order, so that they cannot deadlock.
_PLACE = Statement(
    "place_orders",
    """
    WITH requested AS (
        SELECT
            *,
            statement_timestamp() AS created_at,
            statement_timestamp() + deadline * interval '1 second' AS deadline_at
        FROM json_to_recordset($1) AS (
            id uuid, customer_email text, currency text, total bigint,
            deadline double precision, traceparent text, lines json,
            event_id uuid, type text, event json, api_key text, key text, fingerprint text,
            other_keys text[]
        )
    ), claimed AS (
        INSERT INTO idempotency_keys (api_key, key, fingerprint, order_id)
        SELECT api_key, key, fingerprint, id FROM requested
        WHERE key IS NOT NULL AND NOT EXISTS (
            SELECT FROM idempotency_keys AS earlier
            WHERE earlier.api_key = ANY (requested.other_keys) AND earlier.key = requested.key
        )
        ORDER BY api_key, key
        ON CONFLICT DO NOTHING
        RETURNING order_id
    ), fresh AS (
        SELECT * FROM requested WHERE key IS NULL OR id IN (SELECT order_id FROM claimed)
    ), placed AS (
        INSERT INTO orders (
            id, customer_email, currency, total, created_at, deadline_at, status, traceparent,
            sequence
        )
        SELECT
            id, customer_email, currency, total, created_at, deadline_at, 'PENDING', traceparent, 1
        FROM fresh
    ), with_lines AS (
        INSERT INTO order_lines (order_id, position, sku, quantity, unit_price)
        SELECT fresh.id, line.position, line.sku, line.quantity, line.unit_price
        FROM fresh, ROWS FROM (
            json_to_recordset(fresh.lines) AS (sku text, quantity integer, unit_price bigint)
        ) WITH ORDINALITY AS line (sku, quantity, unit_price, position)
    ), with_events AS (
        INSERT INTO outbox (event_id, type, subject, event)
        SELECT
            event_id, type, id,
            replace(
                event::text,
                '"time":"2000-01-01T00:00:00Z"',
                '"time":"' || to_char(
                    created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'
                ) || '"'
            )
        FROM fresh
    )
    SELECT id, created_at, deadline_at FROM fresh
    """,
    "json",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """A new order, its event and, if the client sent an idempotency key, its claim.

    The order is PENDING for no longer than `deadline`. The time of the event is not set yet.
    """

    order: Draft
    event: Event
    deadline: timedelta
    claim: Claim | None = None


def engine_options(settings: ApiSettings) -> dict[str, object]:
    """Return the options of the intake's separate connections.

    The statement is its own transaction: autocommit saves the round trips that begin and end one.
    """
    options = db.engine_options(
        settings, pool_size=settings.api_pool_size, session=db.BY_KEY, is_limited=True
    )
    return options | {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}


def write(connection: Connection, placings: Sequence[Placing]) -> dict[UUID, Order]:
    """Insert the rows of new orders, in the caller's transaction.

    Return the placed orders as stored. The keys of omitted orders were claimed by earlier requests.
    """
    drafts = {placing.order.id: placing.order for placing in placings}
    placed = _PLACE.rows_on(connection, packed(map(_row, placings)))
    return {
        order_id: domain.place(drafts[order_id], created_at=created_at, deadline_at=deadline_at)
        for order_id, created_at, deadline_at in placed
    }


def _row(placing: Placing) -> dict[str, Any]:
    order, event, claim = placing.order, placing.event, placing.claim
    row: dict[str, Any] = {
        "id": order.id,
        "customer_email": order.customer_email,
        "currency": order.currency,
        "total": order.total,
        "deadline": placing.deadline.total_seconds(),
        "traceparent": event.traceparent,
        "lines": order.lines,
        "event_id": event.id,
        "type": event.type,
        # The text is not parsed, because the column stores exactly the text that is published.
        "event": msgspec.Raw(codec.encode(event)),
    }
    if claim:
        first, *others = claim.api_keys
        row |= {"api_key": first, "other_keys": others}
        row |= {"key": claim.key, "fingerprint": claim.fingerprint}
    return row
