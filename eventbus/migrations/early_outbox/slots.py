"""Let several relays share an outbox: an index, and a state for each part.

An interrupted build leaves an invalid index, so the next build first drops it. A running relay of
an earlier release neither uses the index nor requires the constraint.
"""

from alembic import op
from sqlalchemy import text

_NAME, _TABLE = "ix_outbox_slot", "outbox"


def upgrade() -> None:
    """Build the index of unsent events by slot, and allow several rows in `relay_state`."""
    # This statement is repeatable, like the build of the index.
    op.execute("ALTER TABLE relay_state DROP CONSTRAINT IF EXISTS ck_relay_state_single")
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
    """Drop the index, and all states but the first."""
    op.drop_index(_NAME, _TABLE)
    op.execute("DELETE FROM relay_state WHERE id > 1")
    op.create_check_constraint(op.f("ck_relay_state_single"), "relay_state", "id = 1")
