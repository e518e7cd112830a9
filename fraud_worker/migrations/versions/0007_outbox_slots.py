"""Let several relays share the outbox."""

from eventbus.migrations.early_outbox import slots

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

upgrade, downgrade = slots.upgrade, slots.downgrade
