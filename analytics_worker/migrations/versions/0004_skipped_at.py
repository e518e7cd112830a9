"""Add an index for the retention of skipped messages.

It is built while the running release continues to write. An interrupted build leaves an invalid
index, so the next build first drops it.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ix_skipped_events_skipped_at", "skipped_events"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, _TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(_NAME, _TABLE, ["skipped_at"], postgresql_concurrently=True)


def downgrade() -> None:
    op.drop_index(_NAME, _TABLE)
