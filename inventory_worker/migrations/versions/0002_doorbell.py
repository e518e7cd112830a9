"""Wake the relay on inserts into the outbox."""

from alembic import op

from eventbus.database import wakeup

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(wakeup.DEFINITION.format(table="outbox"))


def downgrade() -> None:
    op.execute("DROP TRIGGER ring_doorbell ON outbox")
    op.execute("DROP FUNCTION ring_doorbell()")
