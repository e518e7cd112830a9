"""Record parked events, behind which later events may wait."""

from alembic import op
from sqlalchemy import BigInteger, Column, DateTime, Text, Uuid, func

revision = "parked_events_0001"
down_revision = None
branch_labels = ("parked_events",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
    op.create_table(
        "parked_events",
        Column("event_id", Uuid, primary_key=True),
        Column("source", Text, nullable=False),
        Column("subject", Uuid, nullable=False),
        Column("sequence", BigInteger, nullable=False),
        Column("behind", Uuid, comment="The event that it waits behind; null: it failed itself."),
        Column("parked_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        if_not_exists=True,
    )
    op.create_index("ix_parked_events_subject", "parked_events", ["subject"], if_not_exists=True)


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("parked_events", if_exists=True)
