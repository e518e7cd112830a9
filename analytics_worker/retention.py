"""Retention in the analytics service: inbox and skipped messages are deleted, figures are kept."""

from pydantic import Field

from analytics_worker.models import SkippedRow
from eventbus.consumer.retention import INBOX, Retention, RetentionRule
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings

SKIPPED = RetentionRule(
    table=SkippedRow.metadata.tables[SkippedRow.__tablename__],
    since=SkippedRow.skipped_at.expression,
)

RULES = (INBOX, SKIPPED)


class ReaderSettings(DedupWindow, ServiceSettings):
    """The settings of the process that reads the stream and deletes old rows."""

    #: Days for which skipped messages are kept. The stream keeps the event itself for 14 days,
    #: during which it can be replayed. A row contains the complete message, including an email
    #: address.
    skipped_event_retention_days: int = Field(30, ge=1, le=3650)


def retention(settings: ReaderSettings) -> Retention:
    """Return the deletion of the service's old rows, which connects at its first pass."""
    days = {
        INBOX: settings.inbox_retention_days,
        SKIPPED: settings.skipped_event_retention_days,
    }
    return Retention(sessions(engine(settings)), days)
