"""Store, for each unsent event, what it waits for and how often publishing it has failed.

Both columns have a default, so the running release continues to write and claim rows, even while
the index is built. An interrupted build leaves an invalid index, so the next build first drops it.
"""

from alembic import op
from sqlalchemy import text

_NAME, _TABLE = "ix_outbox_lane", "outbox"

#: This statement is repeatable, because an interrupted build of the index does not undo it.
_COLUMNS = """
ALTER TABLE outbox
    ADD COLUMN IF NOT EXISTS attempts smallint NOT NULL DEFAULT 0,
    ADD COLUMN IF NOT EXISTS waits_for text;
COMMENT ON COLUMN outbox.attempts IS 'Attempts to publish it that failed.';
COMMENT ON COLUMN outbox.waits_for IS
    'Null: its turn. An event type: the queues of that type. Else in parentheses.';
"""


def upgrade() -> None:
    """Add the columns, and build the index of unsent events by what they wait for."""
    op.execute(_COLUMNS)
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, _TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _NAME,
            _TABLE,
            ["waits_for", "id"],
            postgresql_where=text("sent_at IS NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    """Drop the index and the columns."""
    op.drop_index(_NAME, _TABLE)
    op.drop_column(_TABLE, "waits_for")
    op.drop_column(_TABLE, "attempts")
