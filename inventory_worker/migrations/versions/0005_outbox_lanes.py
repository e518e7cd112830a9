"""Store, for each unsent event, what it waits for and how often publishing it has failed."""

from eventbus.migrations.early_outbox import lanes

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

upgrade, downgrade = lanes.upgrade, lanes.downgrade
