"""Create notifications and inbox."""

from alembic import op
from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Integer,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from eventbus.migrations.versions import inbox_0001 as inbox

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    _notifications()
    inbox.upgrade()


def downgrade() -> None:
    inbox.downgrade()
    op.drop_table("notifications")


def _notifications() -> None:
    op.create_table(
        "notifications",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("order_id", Uuid, nullable=False),
        Column("kind", Text, nullable=False, comment="Names the templates."),
        Column(
            "sequence",
            Integer,
            nullable=False,
            comment="The event's; an order's emails are sent in this order.",
        ),
        Column("recipient", Text, nullable=False),
        Column(
            "context",
            JSONB,
            nullable=False,
            comment="What the templates show: the event's data.",
        ),
        Column("status", Text, nullable=False, server_default="PENDING"),
        Column("attempts", Integer, nullable=False, server_default="0"),
        _now("next_attempt_at", comment="Not before this."),
        Column(
            "message_id",
            Text,
            comment="The Message-ID of every attempt; null before the first.",
        ),
        Column(
            "last_error",
            Text,
            comment="Why the last failed attempt failed; kept when a later one succeeds.",
        ),
        _now("created_at"),
        Column(
            "sent_at",
            DateTime(timezone=True),
            comment="When the mail server took responsibility for it.",
        ),
        UniqueConstraint("order_id", "kind", name=op.f("uq_notifications_order_id")),
        CheckConstraint(
            "status IN ('PENDING', 'SENT', 'FAILED')", name=op.f("ck_notifications_status")
        ),
    )
    op.create_index(
        "ix_notifications_due",
        "notifications",
        ["next_attempt_at", "id"],
        postgresql_where=text("status = 'PENDING'"),
    )


def _now(name: str, *, comment: str | None = None) -> Column[object]:
    return Column(
        name,
        DateTime(timezone=True),
        nullable=False,
        server_default=func.now(),
        comment=comment,
    )
