"""Create orders, idempotency keys, outbox and inbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Integer,
    SmallInteger,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from eventbus.migrations.early_outbox import creation
from eventbus.migrations.versions import inbox_0001 as inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _orders()
    _order_lines()
    _idempotency_keys()
    creation.upgrade()
    inbox.upgrade()


def downgrade() -> None:
    inbox.downgrade()
    creation.downgrade()
    for table in (
        "idempotency_keys",
        "order_lines",
        "orders",
    ):
        op.drop_table(table)


def _orders() -> None:
    op.create_table(
        "orders",
        Column("id", Uuid, primary_key=True),
        Column("customer_email", Text, nullable=False),
        Column("currency", Text, nullable=False),
        Column("status", Text, nullable=False),
        Column("reason", Text),
        Column("total", BigInteger, nullable=False, comment="In minor units of the currency."),
        Column("created_at", DateTime(timezone=True), nullable=False),
        Column("decided_at", DateTime(timezone=True)),
        Column("deadline_at", DateTime(timezone=True), nullable=False),
        Column("traceparent", Text, comment="Of the request that placed it."),
        Column("sequence", Integer, nullable=False, comment="The number of its events so far."),
        CheckConstraint(
            "status IN ('PENDING', 'CONFIRMED', 'CANCELLED')", name=op.f("ck_orders_status")
        ),
        CheckConstraint(
            "(status = 'CANCELLED') = (reason IS NOT NULL)", name=op.f("ck_orders_reason")
        ),
        CheckConstraint(
            "(status = 'PENDING') = (decided_at IS NULL)", name=op.f("ck_orders_decided_at")
        ),
    )
    op.create_index("ix_orders_created_at", "orders", ["created_at", "id"])
    op.create_index("ix_orders_status", "orders", ["status", "created_at", "id"])
    op.create_index("ix_orders_customer_email", "orders", ["customer_email", "created_at", "id"])
    op.create_index(
        "ix_orders_pending_deadline_at",
        "orders",
        ["deadline_at"],
        postgresql_where=text("status = 'PENDING'"),
    )


def _order_lines() -> None:
    op.create_table(
        "order_lines",
        Column(
            "order_id",
            Uuid,
            ForeignKey("orders.id", ondelete="CASCADE", name="fk_order_lines_order_id_orders"),
            primary_key=True,
        ),
        Column("position", SmallInteger, primary_key=True),
        Column("sku", Text, nullable=False),
        Column("quantity", Integer, nullable=False),
        Column("unit_price", BigInteger, nullable=False),
        UniqueConstraint("order_id", "sku", name="uq_order_lines_order_id"),
        CheckConstraint("quantity >= 1", name=op.f("ck_order_lines_quantity")),
        CheckConstraint("unit_price >= 0", name=op.f("ck_order_lines_unit_price")),
    )


def _idempotency_keys() -> None:
    op.create_table(
        "idempotency_keys",
        Column("key", Text, primary_key=True),
        Column(
            "fingerprint", Text, nullable=False, comment="SHA-256 of what the request asked for."
        ),
        Column(
            "order_id",
            Uuid,
            ForeignKey(
                "orders.id",
                ondelete="CASCADE",
                deferrable=True,
                initially="DEFERRED",
                name="fk_idempotency_keys_order_id_orders",
            ),
            nullable=False,
        ),
        _now("created_at"),
    )
    op.create_index("ix_idempotency_keys_order_id", "idempotency_keys", ["order_id"])


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
