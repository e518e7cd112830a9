"""Create stock, reservations, outbox and inbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    Text,
    Uuid,
    func,
)

from eventbus.migrations.early_outbox import creation
from eventbus.migrations.versions import inbox_0001 as inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _inventory()
    creation.upgrade()
    inbox.upgrade()


def downgrade() -> None:
    inbox.downgrade()
    creation.downgrade()
    for table in (
        "reservation_lines",
        "reservations",
        "stock",
    ):
        op.drop_table(table)


def _inventory() -> None:
    op.create_table(
        "stock",
        Column("sku", Text, primary_key=True),
        Column("on_hand", BigInteger, nullable=False),
        Column("reserved", BigInteger, nullable=False, server_default="0"),
        _now("updated_at"),
        CheckConstraint("reserved >= 0 AND reserved <= on_hand", name=op.f("ck_stock_reserved")),
    )
    op.create_table(
        "reservations",
        Column("order_id", Uuid, primary_key=True),
        Column("status", Text, nullable=False),
        Column(
            "sequence",
            Integer,
            nullable=False,
            server_default="0",
            comment="Of the last event published about this order.",
        ),
        _now("created_at"),
        _now("updated_at"),
        CheckConstraint(
            "status IN ('RESERVED', 'REJECTED', 'RELEASED', 'CANCELLED')",
            name=op.f("ck_reservations_status"),
        ),
    )
    op.create_table(
        "reservation_lines",
        Column(
            "order_id",
            Uuid,
            ForeignKey(
                "reservations.order_id",
                ondelete="CASCADE",
                name="fk_reservation_lines_order_id_reservations",
            ),
            primary_key=True,
        ),
        Column(
            "sku",
            Text,
            ForeignKey("stock.sku", name="fk_reservation_lines_sku_stock"),
            primary_key=True,
        ),
        Column("quantity", BigInteger, nullable=False),
        CheckConstraint("quantity >= 1", name=op.f("ck_reservation_lines_quantity")),
    )


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
