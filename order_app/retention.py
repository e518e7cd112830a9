"""The retention of the order service's tables."""

from pydantic import Field

from eventbus.consumer.retention import INBOX, OUTBOX, Retention, RetentionRule
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.outbox import OutboxSettings
from order_app.settings import PublishedVersions
from order_app.storage.models import IdempotencyKey

IDEMPOTENCY_KEYS = RetentionRule(
    table=IdempotencyKey.metadata.tables[IdempotencyKey.__tablename__],
    since=IdempotencyKey.created_at.expression,
)

RULES = (OUTBOX, INBOX, IDEMPOTENCY_KEYS)


class RelaySettings(PublishedVersions, DedupWindow, OutboxSettings):
    """The settings of the order relay, which also deletes old rows."""

    #: Days for which idempotency keys are kept. A client that repeats a request after this time
    #: places a second order, but clients do not keep retrying for a month.
    idempotency_key_retention_days: int = Field(30, ge=1, le=3650)


def retention(settings: RelaySettings) -> Retention:
    """Return the retention of the order service, which connects at its first pass."""
    days = {
        OUTBOX: settings.outbox_retention_days,
        INBOX: settings.inbox_retention_days,
        IDEMPOTENCY_KEYS: settings.idempotency_key_retention_days,
    }
    return Retention(sessions(engine(settings)), days)
