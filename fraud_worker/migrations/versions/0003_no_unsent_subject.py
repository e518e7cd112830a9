"""Drop the index of unsent events by order: claims use the index of all events by order instead."""

from eventbus.migrations.early_outbox import unsent_subject

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

upgrade, downgrade = unsent_subject.upgrade, unsent_subject.downgrade
