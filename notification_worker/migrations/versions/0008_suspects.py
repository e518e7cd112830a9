"""Count, for each event, how often a worker crashed while it handled the event."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "suspects",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("begun", sa.Integer(), nullable=False, comment="How often its handling began."),
        sa.Column(
            "begun_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_suspects")),
    )


def downgrade() -> None:
    op.drop_table("suspects")
