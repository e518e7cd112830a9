"""Create the shipments by operators. The previous release does not use them."""

from alembic import op
from sqlalchemy import Column, DateTime, Text, Uuid

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "shipments",
        # There is no foreign key, for the same reason as in the cancellations.
        Column("order_id", Uuid, primary_key=True),
        Column("shipped_by", Text, nullable=False, comment="The operator's account name."),
        Column("shipped_at", DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("shipments")
