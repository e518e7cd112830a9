"""An insert wakes the relay."""

from alembic import op

from common import doorbell

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(doorbell.DEFINITION.format(table="outbox"))


def downgrade() -> None:
    op.execute("DROP TRIGGER ring_doorbell ON outbox")
    op.execute("DROP FUNCTION ring_doorbell()")
