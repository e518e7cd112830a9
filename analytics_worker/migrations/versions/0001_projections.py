"""Create the projections, their position in the stream, and the inbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Text,
    Uuid,
    func,
)

from eventbus.migrations.versions import inbox_0001 as inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _projections()
    _position()
    inbox.upgrade()


def downgrade() -> None:
    inbox.downgrade()
    for table in (
        "stream_gaps",
        "skipped_events",
        "stream_position",
        "sku_minutes",
        "minutes",
        "orders",
    ):
        op.drop_table(table)


def _projections() -> None:
    op.create_table(
        "orders",
        Column("id", Uuid, primary_key=True),
        Column("placed_at", DateTime(timezone=True), nullable=False),
        Column("currency", Text, nullable=False),
        _number("total", comment="In minor units of the currency."),
        Column("outcome", Text, nullable=False),
        Column(
            "decided_at",
            DateTime(timezone=True),
            comment="When it was confirmed, or rejected for lack of stock.",
        ),
    )
    op.create_index("ix_orders_placed_at", "orders", ["placed_at"])
    op.create_table(
        "minutes",
        Column("minute", DateTime(timezone=True), primary_key=True),
        Column("currency", Text, primary_key=True),
        _number("placed"),
        _number("placed_total", comment="What all of them cost."),
        _number("confirmed"),
        _number("revenue", comment="What the confirmed ones cost."),
        _number("rejected"),
        _number("cancelled", comment="By the customer, or at the deadline."),
        _number("decided", comment="Ever confirmed, or rejected."),
        _number("decision_microseconds", comment="How long these waited, in all."),
    )
    op.create_table(
        "sku_minutes",
        Column("minute", DateTime(timezone=True), primary_key=True),
        Column("sku", Text, primary_key=True),
        Column("currency", Text, primary_key=True),
        _number("placed", comment="Orders."),
        _number("pieces"),
        _number("confirmed", comment="Orders."),
        _number("revenue", comment="What these pieces cost in confirmed orders."),
    )


def _position() -> None:
    op.create_table(
        "stream_position",
        Column("id", BigInteger, primary_key=True, autoincrement=False),
        _number("stream_offset"),
        Column(
            "message_id",
            Text,
            comment="Of that message: another one at its offset is another stream.",
        ),
        _now("caught_up_at", comment="When nothing more was there to read."),
        CheckConstraint("id = 1", name=op.f("ck_stream_position_single")),
    )
    op.create_table(
        "skipped_events",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _number("stream_offset"),
        Column("order_id", Uuid),
        Column("type", Text),
        Column("reason", Text, nullable=False),
        Column("body", Text, nullable=False, comment="As it came."),
        _now("skipped_at"),
    )
    op.create_index("ix_skipped_events_stream_offset", "skipped_events", ["stream_offset"])
    op.create_table(
        "stream_gaps",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        _number("first_offset"),
        Column("last_offset", BigInteger, comment="Null: the stream was replaced."),
        _now("noticed_at"),
    )


def _number(name: str, *, comment: str | None = None) -> Column[object]:
    return Column(name, BigInteger, nullable=False, comment=comment)


def _now(name: str, *, comment: str | None = None) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment=comment,
    )
