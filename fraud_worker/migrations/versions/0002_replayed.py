"""Store whether the order of a judgement came from history.

The column has a default, so the previous release continues to write rows without it.
"""

from alembic import op
from sqlalchemy import Boolean, Column, false

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "judgements",
        Column(
            "replayed",
            Boolean,
            nullable=False,
            server_default=false(),
            comment="Received from history: no external side effects.",
        ),
    )


def downgrade() -> None:
    op.drop_column("judgements", "replayed")
