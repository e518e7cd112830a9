"""The ledger: a view of every stock movement, and the triggers that keep it append-only.

A level in `stock` is the sum of its SKU's movements. Movements that operators enter are in
`stock_entries`. Movements of orders are derived from the reservations, which write no additional
rows.
"""

# Each line of an order has a movement at each time that its reservation records.
_VIEW = """
CREATE VIEW stock_movements AS
SELECT
    sku, kind, on_hand, reserved, entered_at AS moved_at, reason, reference, entered_by,
    NULL::uuid AS order_id, counted
FROM stock_entries
UNION ALL
SELECT
    line.sku, movement.kind, movement.on_hand, movement.reserved, movement.moved_at, NULL,
    line.order_id::text, NULL, line.order_id, NULL
FROM reservation_lines AS line
JOIN reservations AS reservation USING (order_id)
CROSS JOIN LATERAL (
    VALUES
        ('reserve', 0, line.quantity, reservation.created_at),
        (
            'release', 0, -line.quantity,
            CASE
                -- Reservations that earlier versions released have no `released_at`.
                WHEN reservation.status = 'RELEASED'
                THEN coalesce(reservation.released_at, reservation.updated_at)
                ELSE reservation.released_at
            END
        ),
        (
            'ship', -line.quantity,
            CASE WHEN reservation.released_at IS NULL THEN -line.quantity ELSE 0 END,
            reservation.shipped_at
        )
) AS movement (kind, on_hand, reserved, moved_at)
WHERE movement.moved_at IS NOT NULL
"""

_APPEND_ONLY = """
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$
"""

_ENTRIES = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON stock_entries
FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""

_LINES = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON reservation_lines
FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""

# The trigger sets the times, so the ledger does not depend on the code that makes a change. If an
# order had no reserved stock, its stock counts as reserved from its shipment.
_SETTLE = """
CREATE FUNCTION settle_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'RESERVED' AND NEW.status = 'RELEASED' THEN
        NEW.released_at := now();
    ELSIF OLD.status <> 'SHIPPED' AND NEW.status = 'SHIPPED' THEN
        NEW.shipped_at := now();
        IF OLD.status = 'RELEASED' THEN
            NEW.released_at := coalesce(OLD.released_at, OLD.updated_at);
        ELSIF OLD.status <> 'RESERVED' THEN
            NEW.created_at := now();
        END IF;
    ELSE
        RAISE EXCEPTION 'a reservation cannot go from % to %', OLD.status, NEW.status
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NEW;
END $$
"""

_SETTLED = """
CREATE TRIGGER settle_reservation BEFORE UPDATE ON reservations
FOR EACH ROW EXECUTE FUNCTION settle_reservation()
"""

_KEPT = """
CREATE TRIGGER append_only BEFORE DELETE ON reservations
FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""

_LEVELS = """
CREATE TRIGGER append_only BEFORE DELETE ON stock
FOR EACH ROW EXECUTE FUNCTION refuse_change()
"""

#: The statements that migrations run. Released migrations run them, so they must not change.
DEFINITIONS = (_VIEW, _APPEND_ONLY, _ENTRIES, _LINES, _SETTLE, _SETTLED, _KEPT, _LEVELS)
