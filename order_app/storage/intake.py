"""The intake: new orders, with their lines, events and idempotency keys, in one statement.

Every order passes here, so that it is made for speed: one round trip to the database for all the
orders of a group, and a plan that each connection makes once. Not by the ORM, which costs several
times as much. The rows go as one JSON text: a parameter for each column costs both sides more.
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

#: Flask-SQLAlchemy's name for the intake's own connections.
BIND = "intake"

#: An order's moments, and the time of its event, are those of the database: one clock for all that
#: compare them later, whichever process took the order. `replace` dates an event that is `UNDATED`
#: (`order_app.events`); what it finds in the JSON text is the field: quotes in strings are escaped.
#:
#: `fresh` are the orders whose key stands for none yet, nor with another API key of its client,
#: under which earlier releases stored it. Of two requests with the same key, the
#: second waits for the first's commit at the key's row, or comes behind it in the same group; two
#: groups claim in the order of the keys, so that none waits for one that waits for it.
_PLACE = Statement(
    "place_orders",
    """
    WITH asked AS (
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
        SELECT api_key, key, fingerprint, id FROM asked
        WHERE key IS NOT NULL AND NOT EXISTS (
            SELECT FROM idempotency_keys AS earlier
            WHERE earlier.api_key = ANY (asked.other_keys) AND earlier.key = asked.key
        )
        ORDER BY api_key, key
        ON CONFLICT DO NOTHING
        RETURNING order_id
    ), fresh AS (
        SELECT * FROM asked WHERE key IS NULL OR id IN (SELECT order_id FROM claimed)
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
    ), told AS (
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
    """An order that is to be placed, its event and, if its client gave it a key, the claim.

    The order is PENDING for no longer than `deadline`; its event is not dated yet.
    """

    order: Draft
    event: Event
    deadline: timedelta
    claim: Claim | None = None


def engine_options(settings: ApiSettings) -> dict[str, object]:
    """Return the options of the intake's own connections.

    One statement is a transaction by itself: they never begin one, so that none is a round trip
    more, nor has to be ended.
    """
    return db.engine_options(settings, pool_size=settings.api_pool_size, session=db.BY_KEY) | {
        "isolation_level": "AUTOCOMMIT",
        "pool_reset_on_return": None,
    }


def write(connection: Connection, placings: Sequence[Placing]) -> dict[UUID, Order]:
    """Insert the rows of new orders, in the caller's transaction.

    Returns those that are placed, as they are stored: the others' keys were claimed before.
    """
    drafts = {placing.order.id: placing.order for placing in placings}
    placed = _PLACE.run_on(connection, packed(map(_row, placings)))
    return {
        row.id: domain.place(drafts[row.id], created_at=row.created_at, deadline_at=row.deadline_at)
        for row in placed
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
        # As it is: the column keeps the very text that goes on the wire.
        "event": msgspec.Raw(codec.encode(event)),
    }
    if claim:
        first, *others = claim.api_keys
        row |= {"api_key": first, "other_keys": others}
        row |= {"key": claim.key, "fingerprint": claim.fingerprint}
    return row
