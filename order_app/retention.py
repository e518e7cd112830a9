"""What the order service keeps for a time, and for how long."""

from pydantic import Field

from eventbus.consumer.retention import INBOX, OUTBOX, Kept, Retention
from eventbus.database.db import engine, sessions
from eventbus.settings.dedup_window import DedupWindow
from eventbus.settings.service import ServiceSettings
from order_app.settings import PublishedVersions
from order_app.storage.models import IdempotencyKey

IDEMPOTENCY_KEYS = Kept(
    table=IdempotencyKey.metadata.tables[IdempotencyKey.__tablename__],
    since=IdempotencyKey.created_at.expression,
)

KEPT = (OUTBOX, INBOX, IDEMPOTENCY_KEYS)


class RelaySettings(PublishedVersions, DedupWindow, ServiceSettings):
    """What the process that publishes the outbox, and removes old rows, reads."""

    #: Days. A client that repeats a request later than this places a second order; none tries for a
    #: month.
    idempotency_key_retention_days: int = Field(30, ge=1, le=3650)


def retention(settings: RelaySettings) -> Retention:
    """Return what removes the order service's old rows; it connects at its first pass."""
    days = {
        OUTBOX: settings.outbox_retention_days,
        INBOX: settings.inbox_retention_days,
        IDEMPOTENCY_KEYS: settings.idempotency_key_retention_days,
    }
    return Retention(sessions(engine(settings)), days)
