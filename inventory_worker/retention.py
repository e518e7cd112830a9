"""What the inventory keeps for a time, and for how long."""

from eventbus.consumer.retention import INBOX, OUTBOX, Retention
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings

KEPT = (OUTBOX, INBOX)


class RelaySettings(DedupWindow, ServiceSettings):
    """What the process that publishes the outbox, and removes old rows, reads."""


def retention(settings: RelaySettings) -> Retention:
    """Return what removes the inventory's old rows; it connects at its first pass."""
    days = {OUTBOX: settings.outbox_retention_days, INBOX: settings.inbox_retention_days}
    return Retention(sessions(engine(settings)), days)
