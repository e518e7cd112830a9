"""Count, for each event, how often a worker crashed while it handled the event."""

from alembic import op
from sqlalchemy import Column, DateTime, Integer, Uuid, func

revision = "suspects_0001"
down_revision = None
branch_labels = ("suspects",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
    op.create_table(
        "suspects",
        Column("event_id", Uuid, primary_key=True),
        Column("begun", Integer, nullable=False, comment="How often its handling began."),
        Column("begun_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("suspects", if_exists=True)
