"""Allow the status HELD: recorded from history, and never sent.

The table is locked only briefly: a separate statement validates the existing rows while the running
release continues. After an interruption, the migration can be repeated.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_NAME, _TABLE = "ck_notifications_status", "notifications"


def upgrade() -> None:
    _replace("'PENDING', 'SENT', 'FAILED', 'HELD'")


def downgrade() -> None:
    op.execute("DELETE FROM notifications WHERE status = 'HELD'")
    _replace("'PENDING', 'SENT', 'FAILED'")


def _replace(statuses: str) -> None:
    with op.get_context().autocommit_block():
        op.execute(
            f"ALTER TABLE {_TABLE} DROP CONSTRAINT {_NAME}, "
            f"ADD CONSTRAINT {_NAME} CHECK (status IN ({statuses})) NOT VALID"
        )
        op.execute(f"ALTER TABLE {_TABLE} VALIDATE CONSTRAINT {_NAME}")
