"""Add an opening movement for each SKU, so the level is the sum of the movements.

The running release continues to work. A single statement reads levels and history in one
snapshot; later commits change both.
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_OPEN = """
INSERT INTO stock_entries (sku, kind, on_hand, reserved, reason, entered_by)
SELECT sku, 'opening', on_hand, reserved, 'the level before movements were kept', 'migration'
FROM (
    SELECT
        stock.sku,
        stock.on_hand - coalesce(moved.on_hand, 0) AS on_hand,
        stock.reserved - coalesce(moved.reserved, 0) AS reserved
    FROM stock
    LEFT JOIN (
        SELECT sku, sum(on_hand) AS on_hand, sum(reserved) AS reserved
        FROM stock_movements GROUP BY sku
    ) AS moved USING (sku)
) AS opening
WHERE on_hand <> 0 OR reserved <> 0
ORDER BY sku
"""


def upgrade() -> None:
    op.execute("ALTER TABLE stock VALIDATE CONSTRAINT ck_stock_reserved")
    op.execute("ALTER TABLE reservations VALIDATE CONSTRAINT ck_reservations_status")
    op.execute("ALTER TABLE reservations VALIDATE CONSTRAINT ck_reservations_shipped_at")
    op.execute(_OPEN)


def downgrade() -> None:
    """Leave the movements: they still explain the levels, and a second upgrade adds none."""
