"""Create the cancellations by operators."""

from alembic import op
from sqlalchemy import Column, DateTime, Text, Uuid

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cancellations",
        # There is no foreign key, because adding one would lock the orders against writes. A
        # cancellation is written in the same transaction as the change of its order.
        Column("order_id", Uuid, primary_key=True),
        Column("reason", Text, nullable=False),
        Column("cancelled_by", Text, nullable=False, comment="The operator's account name."),
        Column("cancelled_at", DateTime(timezone=True), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("cancellations")
