"""A notification remembers its place in the trace.

Nullable and without a default: the release before this one goes on writing rows without it.
"""

from alembic import op
from sqlalchemy import Column, Text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "notifications", Column("traceparent", Text, comment="Of the handler that recorded it.")
    )


def downgrade() -> None:
    op.drop_column("notifications", "traceparent")
