"""Record parked events, behind which later events may wait; the previous release does not."""

from eventbus.migrations.versions import parked_events_0001 as parked_events

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

upgrade, downgrade = parked_events.upgrade, parked_events.downgrade
