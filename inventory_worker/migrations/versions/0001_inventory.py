"""Create stock, reservations, outbox and inbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Integer,
    SmallInteger,
    Text,
    Uuid,
    func,
    text,
)

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _inventory()
    _outbox()
    _inbox()


def downgrade() -> None:
    for table in (
        "inbox",
        "relay_state",
        "outbox",
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


def _outbox() -> None:
    op.create_table(
        "outbox",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("event_id", Uuid, nullable=False, unique=True),
        Column("type", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("event", Text, nullable=False, comment="The envelope as it goes on the wire."),
        _now("created_at"),
        Column("sent_at", DateTime(timezone=True), comment="When the broker confirmed it."),
        Column(
            "next_attempt_at",
            DateTime(timezone=True),
            nullable=False,
            server_default=func.now(),
            comment="Not before this; later than created_at once the broker has refused it.",
        ),
        Column(
            "unroutable_reason",
            Text,
            comment="Why the broker returned it last; null once it is sent.",
        ),
    )
    unsent, sent = text("sent_at IS NULL"), text("sent_at IS NOT NULL")
    op.create_index(
        "ix_outbox_unsent", "outbox", ["next_attempt_at", "id"], postgresql_where=unsent
    )
    op.create_index(
        "ix_outbox_unsent_subject", "outbox", ["subject", "id"], postgresql_where=unsent
    )
    op.create_index("ix_outbox_subject", "outbox", ["subject"])
    op.create_index("ix_outbox_sent_at", "outbox", ["sent_at"], postgresql_where=sent)
    op.create_table(
        "relay_state",
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column(
            "passed_at",
            DateTime(timezone=True),
            nullable=False,
            comment="Its last pass over the outbox.",
        ),
        Column(
            "broker_error",
            Text,
            comment="Why that pass could not publish; null when it could.",
        ),
        CheckConstraint("id = 1", name=op.f("ck_relay_state_single")),
    )


def _inbox() -> None:
    op.create_table(
        "inbox",
        Column("event_id", Uuid, primary_key=True, comment="The dedup key."),
        Column("type", Text, nullable=False),
        Column("source", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("attempts", Integer, nullable=False, comment="1 when the first attempt succeeded."),
        Column("traceparent", Text),
        Column("causationid", Uuid),
        Column(
            "occurred_at",
            DateTime(timezone=True),
            nullable=False,
            comment="The event's own time.",
        ),
        _now("handled_at"),
    )
    op.create_index("ix_inbox_subject", "inbox", ["subject"])
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"])


def _now(name: str) -> Column[object]:
    return Column(name, DateTime(timezone=True), nullable=False, server_default=func.now())
