"""Add the record of dropped events. The previous release does not use it."""

from eventbus.migrations.versions import overflow_0001 as overflow

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

upgrade, downgrade = overflow.upgrade, overflow.downgrade
