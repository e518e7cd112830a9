"""Index the unsent events of each slot, and let each part of the outbox have its relay's state.

The running release neither uses the index nor requires the constraint. An interrupted build leaves
an invalid index, so the next build first drops it.
"""

from alembic import op
from sqlalchemy import text

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ix_outbox_slot", "outbox"

#: Repeatable, like the build of the index.
_SINGLE = "ALTER TABLE relay_state DROP CONSTRAINT IF EXISTS ck_relay_state_single"


def upgrade() -> None:
    op.execute(_SINGLE)
    with op.get_context().autocommit_block():
        op.drop_index(_NAME, _TABLE, if_exists=True, postgresql_concurrently=True)
        op.create_index(
            _NAME,
            _TABLE,
            [text("(uuid_hash(subject) & 63)"), text("waits_for DESC"), "id"],
            postgresql_where=text("sent_at IS NULL"),
            postgresql_concurrently=True,
        )


def downgrade() -> None:
    op.drop_index(_NAME, _TABLE)
    op.execute("DELETE FROM relay_state WHERE id > 1")
    op.create_check_constraint(op.f("ck_relay_state_single"), "relay_state", "id = 1")
