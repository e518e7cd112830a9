"""Create the state of the relays: a row for each part of the outbox.

A table that the service's own revisions have created is altered by them, and dropped by them.
"""

from alembic import op
from sqlalchemy import Column, DateTime, SmallInteger, Text

revision = "relay_state_0001"
down_revision = None
branch_labels = ("relay_state",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
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
            "broker_error", Text, comment="Why that pass could not publish; null when it could."
        ),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Keep the table."""
