"""Record parked events, behind which later events may wait; the previous release does not."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "parked_events",
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("subject", sa.Uuid(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column(
            "behind",
            sa.Uuid(),
            nullable=True,
            comment="The event that it waits behind; null: it failed itself.",
        ),
        sa.Column(
            "parked_at",
            sa.DateTime(timezone=True),
            server_default=sa.func.now(),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("event_id", name=op.f("pk_parked_events")),
    )
    op.create_index("ix_parked_events_subject", "parked_events", ["subject"])


def downgrade() -> None:
    op.drop_table("parked_events")
