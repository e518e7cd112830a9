"""Add stock movements and shipped reservations, and allow counts below the reserved quantity.

The running release continues to work: no lock is held while rows are read. The next revision
validates the existing rows.
"""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Text,
    func,
    text,
)

from inventory_worker import ledger

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_INDEX, _LINES = "ix_reservation_lines_sku", "reservation_lines"

_FOREIGN_KEY = "fk_reservation_lines_sku_stock"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_INDEX, _LINES, if_exists=True, postgresql_concurrently=True)
        op.create_index(_INDEX, _LINES, ["sku", "order_id"], postgresql_concurrently=True)
    # The tables are locked in the order in which workers lock them.
    op.execute("LOCK TABLE stock, reservations, reservation_lines IN ACCESS EXCLUSIVE MODE")
    op.drop_constraint(_FOREIGN_KEY, _LINES)
    _tables()
    _columns()
    for definition in ledger.DEFINITIONS:
        op.execute(definition)


def downgrade() -> None:
    op.execute("DROP VIEW stock_movements")
    op.execute("DROP TRIGGER settle_reservation ON reservations")
    op.execute("DROP TRIGGER append_only ON stock")
    op.execute("DROP TRIGGER append_only ON reservations")
    op.execute("DROP TRIGGER append_only ON reservation_lines")
    op.drop_table("stock_imports")
    op.drop_table("stock_entries")
    op.execute("DROP FUNCTION settle_reservation()")
    op.execute("DROP FUNCTION refuse_change()")
    # The previous release has no SHIPPED. In that release, these orders no longer have reserved
    # stock.
    op.execute("ALTER TABLE reservations DROP CONSTRAINT ck_reservations_shipped_at")
    op.execute("UPDATE reservations SET status = 'RELEASED' WHERE status = 'SHIPPED'")
    op.execute("UPDATE stock SET on_hand = reserved WHERE on_hand < reserved")
    op.drop_column("reservations", "shipped_at")
    op.drop_column("reservations", "released_at")
    op.drop_index(_INDEX, _LINES)
    op.create_foreign_key(_FOREIGN_KEY, _LINES, "stock", ["sku"], ["sku"])
    _check("stock", "reserved", "reserved >= 0 AND reserved <= on_hand")
    _check("reservations", "status", "status IN ('RESERVED', 'REJECTED', 'RELEASED', 'CANCELLED')")
    op.execute("ALTER TABLE stock VALIDATE CONSTRAINT ck_stock_reserved")
    op.execute("ALTER TABLE reservations VALIDATE CONSTRAINT ck_reservations_status")


def _tables() -> None:
    op.create_table(
        "stock_entries",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("sku", Text, nullable=False),
        Column("kind", Text, nullable=False),
        Column("on_hand", BigInteger, nullable=False, comment="By how much it rises or falls."),
        Column(
            "reserved",
            BigInteger,
            nullable=False,
            server_default="0",
            comment="By how much it rises or falls.",
        ),
        Column("counted", BigInteger, comment="What a count has found."),
        Column("reason", Text, nullable=False),
        Column("reference", Text, comment="A document; entered again, it has no second effect."),
        Column("entered_by", Text, nullable=False),
        _now("entered_at"),
        CheckConstraint(
            "kind IN ('opening', 'receive', 'count', 'correct')", name=op.f("ck_stock_entries_kind")
        ),
        CheckConstraint("reserved = 0 OR kind = 'opening'", name=op.f("ck_stock_entries_reserved")),
    )
    op.create_index("ix_stock_entries_sku", "stock_entries", ["sku", "id"])
    op.create_index(
        "ix_stock_entries_reference",
        "stock_entries",
        ["reference", "sku", "kind"],
        unique=True,
        postgresql_where=text("reference IS NOT NULL"),
    )
    op.create_table(
        "stock_imports",
        Column("reference", Text, primary_key=True),
        Column("digest", Text, nullable=False, comment="SHA-256 of the file's content."),
        Column("reached", Text, nullable=False, server_default="", comment="The last SKU done."),
        _now("updated_at"),
    )


def _columns() -> None:
    for name, status in (("released_at", "RELEASED"), ("shipped_at", "SHIPPED")):
        comment = f"Set by the database when the status becomes {status}."
        op.add_column("reservations", Column(name, DateTime(timezone=True), comment=comment))
    _check("stock", "reserved", "reserved >= 0")
    _check(
        "reservations",
        "status",
        "status IN ('RESERVED', 'REJECTED', 'RELEASED', 'SHIPPED', 'CANCELLED')",
    )
    op.execute(
        "ALTER TABLE reservations ADD CONSTRAINT ck_reservations_shipped_at "
        "CHECK ((status = 'SHIPPED') = (shipped_at IS NOT NULL)) NOT VALID"
    )


def _check(table: str, name: str, condition: str) -> None:
    constraint = f"ck_{table}_{name}"
    op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {constraint}")
    op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {constraint} CHECK ({condition}) NOT VALID")


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
