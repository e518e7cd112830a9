"""Let several relays share the outbox."""

from eventbus.outbox import slot_migration

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

upgrade, downgrade = slot_migration.upgrade, slot_migration.downgrade
