"""Record that an operator has paused the service. The previous release does not use it."""

from eventbus.migrations.versions import operator_pause_0001 as operator_pause

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

upgrade, downgrade = operator_pause.upgrade, operator_pause.downgrade
