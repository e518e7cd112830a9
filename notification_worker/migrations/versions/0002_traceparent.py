"""Store the traceparent of a notification.

The column is nullable and has no default, so the previous release continues to write rows without
it.
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
