"""Count shipped orders.

The reader of the previous release continues, and does not count shipped orders.
"""

from alembic import op
from sqlalchemy import BigInteger, Column

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "minutes",
        Column(
            "shipped",
            BigInteger,
            nullable=False,
            server_default="0",
            comment="Of the confirmed ones, those whose goods have left.",
        ),
    )


def downgrade() -> None:
    op.drop_column("minutes", "shipped")
