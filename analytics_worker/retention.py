"""What the analytics keep for a time, and for how long; the figures are kept for ever."""

from eventbus.consumer.retention import INBOX, Retention
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings

KEPT = (INBOX,)


class ReaderSettings(DedupWindow, ServiceSettings):
    """What the process that reads the stream, and removes old rows, reads."""


def retention(settings: ReaderSettings) -> Retention:
    """Return what removes the service's old rows; it connects at its first pass."""
    return Retention(sessions(engine(settings)), {INBOX: settings.inbox_retention_days})
