"""Count, for each event, how often a worker crashed while it handled the event."""

from eventbus.migrations.versions import suspects_0001 as suspects

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

upgrade, downgrade = suspects.upgrade, suspects.downgrade
