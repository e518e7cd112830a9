"""Create the inbox."""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, Text, Uuid, func

revision = "inbox_0001"
down_revision = None
branch_labels = ("inbox",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
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
        Column("handled_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        if_not_exists=True,
    )
    op.create_index("ix_inbox_subject", "inbox", ["subject"], if_not_exists=True)
    op.create_index("ix_inbox_handled_at", "inbox", ["handled_at"], if_not_exists=True)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("inbox", if_exists=True)
