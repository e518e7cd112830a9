"""Reservations as rows: the stock is locked, then the answers to many orders are written."""

from collections.abc import Collection, Mapping
from uuid import UUID

from sqlalchemy.orm import Session

from common.statement import Statement, packed
from inventory_worker.domain import Rejected, Reserved
from inventory_worker.models import Status

# Everybody locks in the order of the SKU: orders that overlap wait, but never for each other.
_LOCK = Statement(
    "lock_stock",
    """
    SELECT sku, on_hand - reserved AS available FROM stock
    WHERE sku = ANY ($1) ORDER BY sku FOR UPDATE
    """,
    "text[]",
)

# An order that has a row already gets no lines and takes nothing.
_WRITE = Statement(
    "write_reservations",
    """
    WITH answered AS (
        INSERT INTO reservations (order_id, status, sequence)
        SELECT order_id, status, 1
        FROM json_to_recordset($1) AS answer (order_id uuid, status text)
        ORDER BY order_id
        ON CONFLICT DO NOTHING
        RETURNING order_id
    ), held AS (
        INSERT INTO reservation_lines (order_id, sku, quantity)
        SELECT order_id, sku, quantity
        FROM json_to_recordset($2) AS line (order_id uuid, sku text, quantity bigint)
        JOIN answered USING (order_id)
        RETURNING sku, quantity
    ), taken AS (
        UPDATE stock SET reserved = reserved + total.quantity, updated_at = now()
        FROM (SELECT sku, sum(quantity)::bigint AS quantity FROM held GROUP BY sku) AS total
        WHERE stock.sku = total.sku
    )
    SELECT order_id FROM answered
    """,
    "json",
    "json",
)


def lock_stock(session: Session, skus: Collection[str]) -> dict[str, int]:
    """Lock the stock of these SKUs, and return what is available of each that is known."""
    found = _LOCK.run(session, list(skus))
    return {row.sku: row.available for row in found}


def write(session: Session, outcomes: Mapping[UUID, Reserved | Rejected]) -> list[UUID]:
    """Write the answers to orders, and take what is reserved from the stock, which is locked.

    Returns the orders that had no row yet: of the others nothing is written.
    """
    answers = [
        {"order_id": order_id, "status": status_of(outcome)}
        for order_id, outcome in outcomes.items()
    ]
    lines = [
        {"order_id": order_id, "sku": sku, "quantity": quantity}
        for order_id, outcome in outcomes.items()
        if isinstance(outcome, Reserved)
        for sku, quantity in outcome.quantities.items()
    ]
    written = _WRITE.run(session, packed(answers), packed(lines))
    unheard = set(written.scalars())
    return [order_id for order_id in outcomes if order_id in unheard]


def status_of(outcome: Reserved | Rejected) -> Status:
    """Return the status that an outcome gives to an order's reservation."""
    return Status.RESERVED if isinstance(outcome, Reserved) else Status.REJECTED
