"""The retention of the notification service's tables."""

from eventbus.consumer.retention import INBOX, Retention, RetentionRule
from eventbus.database.db import engine, sessions
from notification_worker.domain import Status
from notification_worker.models import Notification
from notification_worker.settings import MailerSettings

#: The retention rule of emails. A pending email is never deleted.
NOTIFICATIONS = RetentionRule(
    table=Notification.metadata.tables[Notification.__tablename__],
    since=Notification.created_at.expression,
    where=Notification.status != Status.PENDING,
)

RULES = (INBOX, NOTIFICATIONS)


def retention(settings: MailerSettings) -> Retention:
    """Return the deletion of the service's old rows, which connects at its first pass."""
    days = {
        INBOX: settings.inbox_retention_days,
        NOTIFICATIONS: settings.notification_retention_days,
    }
    return Retention(sessions(engine(settings)), days)
