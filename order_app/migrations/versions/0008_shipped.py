"""Allow the status SHIPPED.

The running release continues to work: every existing row satisfies the widened checks, and
validating them takes no lock that blocks reads or writes.
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_STATUS, _SHIPPED_AT = "ck_orders_status", "ck_orders_shipped_at"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE orders ADD COLUMN IF NOT EXISTS shipped_at timestamptz")
        _replace(_STATUS, "status IN ('PENDING', 'CONFIRMED', 'SHIPPED', 'CANCELLED')")
        _replace(_SHIPPED_AT, "(status = 'SHIPPED') = (shipped_at IS NOT NULL)")


def downgrade() -> None:
    # In the previous release, which has no SHIPPED, such orders are CONFIRMED.
    op.drop_constraint(_SHIPPED_AT, "orders")
    op.execute("UPDATE orders SET status = 'CONFIRMED' WHERE status = 'SHIPPED'")
    op.drop_column("orders", "shipped_at")
    op.drop_constraint(_STATUS, "orders")
    op.create_check_constraint(
        op.f(_STATUS), "orders", "status IN ('PENDING', 'CONFIRMED', 'CANCELLED')"
    )


def _replace(name: str, condition: str) -> None:
    # This is a single statement, so the table is never without the check, and an interrupted run
    # can be repeated.
    op.execute(
        f"ALTER TABLE orders DROP CONSTRAINT IF EXISTS {name}, "
        f"ADD CONSTRAINT {name} CHECK ({condition}) NOT VALID"
    )
    op.execute(f"ALTER TABLE orders VALIDATE CONSTRAINT {name}")
