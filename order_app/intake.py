"""The intake: a new order, its lines, its event and its idempotency key, in one statement.

Every order passes here, so that it is made for speed: one round trip to the database, and a plan
that each connection makes once. Not by the ORM, which costs several times as much.
"""

from sqlalchemy import Connection

from common import codec
from common.events import Event
from order_app.domain import Order
from order_app.idempotency import Claim

#: Flask-SQLAlchemy's name for the intake's own connections. One statement is a transaction by
#: itself: they never begin one, so that none is a round trip more, nor has to be ended.
BIND = "intake"
ENGINE_OPTIONS = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}

#: In the `info` of a connection that knows the statement.
_PREPARED = "place_order"

#: `fresh` is one row, or none if the key stands for an order already. Of two requests with the same
#: key at once, the second waits for the first's commit at the key's row.
_PREPARE = """
PREPARE place_order (
    text, text, text, uuid, text, text, bigint, timestamptz, timestamptz, text, text,
    text[], integer[], bigint[], uuid, text, text
) AS
WITH claimed AS (
    INSERT INTO idempotency_keys (api_key, key, fingerprint, order_id)
    SELECT $1, $2, $3, $4 WHERE $2 IS NOT NULL
    ON CONFLICT DO NOTHING
    RETURNING key
), fresh AS (
    SELECT 1 WHERE $2 IS NULL OR EXISTS (SELECT FROM claimed)
), placed AS (
    INSERT INTO orders (
        id, customer_email, currency, total, created_at, deadline_at, status, traceparent, sequence
    )
    SELECT $4, $5, $6, $7, $8, $9, $10, $11, 1 FROM fresh
), with_lines AS (
    INSERT INTO order_lines (order_id, position, sku, quantity, unit_price)
    SELECT $4, line.position, line.sku, line.quantity, line.unit_price
    FROM fresh, unnest($12, $13, $14) WITH ORDINALITY
        AS line (sku, quantity, unit_price, position)
)
INSERT INTO outbox (event_id, type, subject, event)
SELECT $15, $16, $4, $17 FROM fresh
"""

_EXECUTE = "EXECUTE place_order (" + ", ".join(["%s"] * 17) + ")"


def place(connection: Connection, order: Order, event: Event, claim: Claim | None) -> bool:
    """Insert the rows of a new order, in the caller's transaction; False if its key was claimed."""
    if _PREPARED not in connection.info:
        connection.exec_driver_sql(_PREPARE)
        connection.info[_PREPARED] = True
    written = connection.exec_driver_sql(
        _EXECUTE,
        (
            *((claim.api_key, claim.key, claim.fingerprint) if claim else (None, None, None)),
            str(order.id),
            order.customer_email,
            order.currency,
            order.total,
            order.created_at,
            order.deadline_at,
            order.status.value,
            event.traceparent,
            [line.sku for line in order.lines],
            [line.quantity for line in order.lines],
            [line.unit_price for line in order.lines],
            str(event.id),
            event.type,
            codec.encode(event).decode(),
        ),
    )
    return written.rowcount == 1
