"""Wake the mailer on inserts into the notifications."""

from alembic import op

from eventbus.database import wakeup

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(wakeup.DEFINITION.format(table="notifications"))


def downgrade() -> None:
    op.execute("DROP TRIGGER ring_doorbell ON notifications")
    op.execute("DROP FUNCTION ring_doorbell()")
