"""Create the record of a pause by an operator."""

from alembic import op
from sqlalchemy import CheckConstraint, Column, DateTime, SmallInteger, Text, func

revision = "operator_pause_0001"
down_revision = None
branch_labels = ("operator_pause",)
depends_on = None


def upgrade() -> None:
    """Create the table, unless it exists."""
    op.create_table(
        "operator_pause",
        Column("id", SmallInteger, primary_key=True, autoincrement=False),
        Column("reason", Text, nullable=False),
        Column("paused_by", Text, nullable=False),
        Column("paused_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        CheckConstraint("id = 1", name=op.f("ck_operator_pause_single")),
        if_not_exists=True,
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("operator_pause", if_exists=True)
