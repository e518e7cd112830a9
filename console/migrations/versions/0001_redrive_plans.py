"""Create the redrive plans."""

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
    UniqueConstraint,
    Uuid,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_NOW = func.now()


def upgrade() -> None:
    op.create_table(
        "redrive_plans",
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("service", Text, nullable=False),
        Column("criteria", JSONB, nullable=False, comment="As the operator gave them."),
        Column("state", Text, nullable=False),
        Column("reason", Text, comment="Why its last run ended early."),
        Column("created_by", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        CheckConstraint(
            "state IN ('incomplete', 'ready', 'paused', 'aborted', 'done')", name="state"
        ),
    )
    op.create_index("ix_redrive_plans_created_at", "redrive_plans", ["created_at"])
    op.create_table(
        "redrive_items",
        Column(
            "plan_id",
            BigInteger,
            ForeignKey("redrive_plans.id", ondelete="CASCADE"),
            primary_key=True,
        ),
        Column("position", Integer, primary_key=True, comment="In the parking lot, from 1."),
        Column("event_id", Text, nullable=False, comment="As `orderctl parked list` shows it."),
        Column("digest", Text, nullable=False, comment="SHA-256 of the body."),
        Column("inbox_id", Uuid, comment="The dedup key; null: not an event."),
        Column("type", Text),
        Column("order_id", Text),
        Column("effect", Text, nullable=False, comment="Of the redrive, as expected at planning."),
        Column(
            "rank",
            SmallInteger,
            nullable=False,
            comment="Redriven in ascending order: first the messages that have an effect.",
        ),
        Column("state", Text, nullable=False),
        Column("note", Text, comment="Why it is parked again or skipped."),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
        UniqueConstraint("plan_id", "event_id"),
        CheckConstraint(
            "state IN ('planned', 'sent', 'handled', 'parked again', 'gone', 'skipped')",
            name="state",
        ),
    )
    op.create_index(
        "ix_redrive_items_state", "redrive_items", ["plan_id", "state", "rank", "position"]
    )


def downgrade() -> None:
    op.drop_table("redrive_items")
    op.drop_table("redrive_plans")
