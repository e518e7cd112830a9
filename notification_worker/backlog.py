"""The mails that wait: finding what is due, and recording what became of it."""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, DateTime, Select, func, select
from sqlalchemy.orm import Session

from notification_worker.domain import Status
from notification_worker.models import Notification

#: Characters of an error that are kept.
ERROR_LIMIT = 1_000

#: How soon a mail is looked at again that waits for one that is just being sent.
SHORTLY = timedelta(milliseconds=50)

#: Seconds until the first mail is due; a look at the first entry of an index.
LOOK = """
SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float
FROM notifications WHERE status = 'PENDING'
"""


def anything_due(session: Session) -> bool:
    """Return whether there may be a mail to send now."""
    return session.scalars(_next_due()).first() is not None


def claim(session: Session) -> Notification | None:
    """Return the mail that is due for longest, or None; nobody else gets it in this transaction."""
    return session.scalars(_next_due().with_for_update(skip_locked=True)).first()


def postponed(session: Session, notification: Notification) -> bool:
    """Put a claimed mail off until the earlier ones of its order are due; False if all have left.

    Not a condition of the claim: while a mail server refuses everything for hours, each claim
    would pass over all the mails that wait for an earlier one.
    """
    earlier = session.scalar(
        select(func.max(Notification.next_attempt_at)).where(
            Notification.order_id == notification.order_id,
            Notification.sequence < notification.sequence,
            Notification.status == Status.PENDING,
        )
    )
    if earlier is None:
        return False
    # An earlier one that is due already is being sent by another mailer.
    notification.next_attempt_at = func.greatest(earlier, _now() + SHORTLY)
    return True


def mark_sent(notification: Notification) -> None:
    """Record that the mail server has taken the mail."""
    notification.attempts += 1
    notification.status = Status.SENT
    notification.sent_at = _now()


def mark_deferred(notification: Notification, *, error: str, delay: float) -> None:
    """Record a failed attempt; the next one is not before `delay` seconds from now."""
    notification.attempts += 1
    notification.last_error = _stored(error)
    notification.next_attempt_at = _now() + timedelta(seconds=delay)


def mark_failed(notification: Notification, *, error: str) -> None:
    """Record that the mail is given up."""
    notification.attempts += 1
    notification.last_error = _stored(error)
    notification.status = Status.FAILED


def _next_due() -> Select[Notification]:
    return (
        select(Notification)
        .where(
            Notification.status == Status.PENDING,
            Notification.next_attempt_at <= func.now(),
        )
        .order_by(Notification.next_attempt_at, Notification.id)
        .limit(1)
    )


def _now() -> ColumnElement[datetime]:
    # Not now(), which is when the transaction began: sending may have taken long.
    return func.clock_timestamp(type_=DateTime(timezone=True))


def _stored(error: str) -> str:
    return error.replace("\x00", "")[:ERROR_LIMIT]
