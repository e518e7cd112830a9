"""A judgement remembers whether its order was heard of from history.

It has a default: the release before this one goes on writing rows without it.
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
            comment="Heard of from history: nobody outside is told.",
        ),
    )


def downgrade() -> None:
    op.drop_column("judgements", "replayed")
