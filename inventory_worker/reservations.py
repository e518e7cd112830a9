"""The reservation tables: batches of orders are reserved, released and shipped under locks.

Every transaction locks in the same order: levels by SKU, existing reservations by order id, then
new reservations by order id. Overlapping transactions wait, but cannot deadlock. SKUs are compared
by code point, as in Python, because the collation of a database may sort differently. A reservation
with quantities changes only while its levels are locked.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

from sqlalchemy.orm import Session

from eventbus.database.statement import Statement, packed
from inventory_worker.domain import Reservation, Status, changes

_LOCK_STOCK = Statement(
    "lock_stock",
    """
    SELECT sku, on_hand - reserved AS available FROM stock
    WHERE sku = ANY ($1) ORDER BY sku COLLATE "C" FOR UPDATE
    """,
    "text[]",
)

_ADD_STOCK = Statement(
    "add_stock",
    """
    INSERT INTO stock (sku, on_hand) SELECT sku, 0 FROM unnest($1) AS sku ORDER BY sku COLLATE "C"
    ON CONFLICT DO NOTHING
    """,
    "text[]",
)

_HELD_SKUS = Statement(
    "held_skus", "SELECT order_id, sku FROM reservation_lines WHERE order_id = ANY ($1)", "uuid[]"
)

_LOCK = Statement(
    "lock_reservations",
    """
    SELECT
        order_id, status, sequence,
        (
            SELECT json_object_agg(sku, quantity ORDER BY sku COLLATE "C") FROM reservation_lines
            WHERE order_id = reservations.order_id
        ) AS quantities
    FROM reservations WHERE order_id = ANY ($1) ORDER BY order_id FOR UPDATE
    """,
    "uuid[]",
)

# An order that already has a row gets no lines and no reservation.
_WRITE = Statement(
    "write_reservations",
    """
    WITH answered AS (
        INSERT INTO reservations (order_id, status, sequence)
        SELECT order_id, status, sequence
        FROM json_to_recordset($1) AS answer (order_id uuid, status text, sequence integer)
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

_SETTLE = Statement(
    "settle_reservations",
    """
    WITH settled AS (
        UPDATE reservations
        SET status = settlement.status, sequence = settlement.sequence, updated_at = now()
        FROM json_to_recordset($1) AS settlement (order_id uuid, status text, sequence integer)
        WHERE reservations.order_id = settlement.order_id
    ), held AS (
        INSERT INTO reservation_lines (order_id, sku, quantity)
        SELECT order_id, sku, quantity
        FROM json_to_recordset($2) AS line (order_id uuid, sku text, quantity bigint)
    )
    UPDATE stock
    SET on_hand = stock.on_hand + moved.on_hand, reserved = stock.reserved + moved.reserved,
        updated_at = now()
    FROM json_to_recordset($3) AS moved (sku text, on_hand bigint, reserved bigint)
    WHERE stock.sku = moved.sku
    """,
    "json",
    "json",
    "json",
)

Reservations = Mapping[UUID, Reservation]


def lock_stock(session: Session, skus: Collection[str]) -> dict[str, int]:
    """Lock the levels of these SKUs, and return the available quantity of each existing SKU."""
    rows = _LOCK_STOCK.run(session, list(skus))
    return {row.sku: row.available for row in rows}


def add_stock(session: Session, skus: Collection[str]) -> None:
    """Add the SKUs that do not exist, with 0 on hand."""
    _ADD_STOCK.run(session, list(skus))


def held_skus(session: Session, order_ids: Collection[UUID]) -> dict[UUID, set[str]]:
    """Return the SKUs that each order has or had reserved. Orders without SKUs are omitted."""
    held: defaultdict[UUID, set[str]] = defaultdict(set)
    for row in _HELD_SKUS.run(session, list(order_ids)):
        held[row.order_id].add(row.sku)
    return dict(held)


def lock(session: Session, order_ids: Collection[UUID]) -> dict[UUID, Reservation]:
    """Lock and return the existing reservations of these orders."""
    return {
        row.order_id: Reservation(
            status=Status(row.status), sequence=row.sequence, quantities=row.quantities or {}
        )
        for row in _LOCK.run(session, list(order_ids))
    }


def write(session: Session, known: Reservations, now: Reservations) -> set[UUID]:
    """Write the reservations `now` and change their levels, which are locked.

    `known` contains the stored reservations. Returns the orders that have a stored reservation
    although it is not in `known`; their reservations are not written.
    """
    new = {
        order_id: _as_first(reservation)
        for order_id, reservation in now.items()
        if order_id not in known
    }
    inserted: set[UUID] = set()
    if new:
        inserted = set(_WRITE.run(session, packed(_rows(new)), packed(_lines(new))).scalars())
    before = {**known, **{order_id: new[order_id] for order_id in inserted}}
    settled = {
        order_id: (before[order_id], after)
        for order_id, after in now.items()
        if order_id in before and after.status is not before[order_id].status
    }
    if settled:
        _settle(session, settled)
    return new.keys() - inserted


def _as_first(reservation: Reservation) -> Reservation:
    # Quantities that are released or shipped in the same batch are reserved first, so that the
    # ledger has both movements.
    if not reservation.quantities:
        return reservation
    return Reservation(
        status=Status.RESERVED, sequence=reservation.sequence, quantities=reservation.quantities
    )


def _settle(session: Session, settled: Mapping[UUID, tuple[Reservation, Reservation]]) -> None:
    rows = _rows({order_id: after for order_id, (_, after) in settled.items()})
    held = _lines({i: after for i, (before, after) in settled.items() if not before.quantities})
    moved: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
    for before, after in settled.values():
        for change in changes(before, after):
            moved[change.sku][0] += change.on_hand
            moved[change.sku][1] += change.reserved
    levels = ({"sku": sku, "on_hand": h, "reserved": r} for sku, (h, r) in moved.items())
    _SETTLE.run_with_next(session, packed(rows), packed(held), packed(levels))


def _rows(reservations: Reservations) -> Iterable[dict[str, object]]:
    return (
        {"order_id": order_id, "status": reservation.status, "sequence": reservation.sequence}
        for order_id, reservation in reservations.items()
    )


def _lines(reservations: Reservations) -> Iterable[dict[str, object]]:
    return (
        {"order_id": order_id, "sku": sku, "quantity": quantity}
        for order_id, reservation in reservations.items()
        for sku, quantity in reservation.quantities.items()
    )
