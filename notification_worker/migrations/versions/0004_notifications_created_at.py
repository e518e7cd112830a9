"""Add an index for the retention of notifications.

It is built while the running release continues to write. An interrupted build leaves an invalid
index, so the next build first drops it.
"""

from alembic import op
from sqlalchemy import text

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ix_notifications_created_at", "notifications"


def upgrade() -> None:
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, _TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _NAME,
            _TABLE,
            ["created_at"],
            postgresql_where=text("status <> 'PENDING'"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_NAME, _TABLE)
