"""What the inventory keeps for a time, and for how long."""

from common.db import engine, sessions
from common.dedup_window import DedupWindow
from common.retention import INBOX, OUTBOX, Retention
from common.settings import ServiceSettings

KEPT = (OUTBOX, INBOX)


class RelaySettings(DedupWindow, ServiceSettings):
    """What the process that publishes the outbox, and removes old rows, reads."""


def retention(settings: RelaySettings) -> Retention:
    """Return what removes the inventory's old rows; it connects at its first pass."""
    days = {OUTBOX: settings.outbox_retention_days, INBOX: settings.inbox_retention_days}
    return Retention(sessions(engine(settings)), days)
