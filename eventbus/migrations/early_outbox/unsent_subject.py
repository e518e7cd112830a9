"""Drop the index of unsent events by order: claims use the index of all events by order instead.

The running release continues to claim events in the meantime, with the remaining index.
"""

from alembic import op
from sqlalchemy import text

_NAME, _TABLE = "ix_outbox_unsent_subject", "outbox"


def upgrade() -> None:
    """Drop the index."""
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, _TABLE, if_exists=True, postgresql_concurrently=True)


def downgrade() -> None:
    """Create the index."""
    op.create_index(_NAME, _TABLE, ["subject", "id"], postgresql_where=text("sent_at IS NULL"))
