"""The retention of the inventory's outbox and inbox."""

from eventbus.consumer.retention import INBOX, OUTBOX, Retention
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.outbox import OutboxSettings

RULES = (OUTBOX, INBOX)


class RelaySettings(DedupWindow, OutboxSettings):
    """The settings of the process that publishes the outbox and deletes old rows."""


def retention(settings: RelaySettings) -> Retention:
    """Return the deletion of the inventory's old rows, which connects at its first pass."""
    days = {OUTBOX: settings.outbox_retention_days, INBOX: settings.inbox_retention_days}
    return Retention(sessions(engine(settings)), days)
