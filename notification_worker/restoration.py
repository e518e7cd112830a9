"""Emails that a restored database has not sent yet."""

from sqlalchemy import update
from sqlalchemy.orm import Session

from notification_worker.domain import Status
from notification_worker.models import Notification


def hold(session: Session) -> int:
    """Hold the emails that wait to be sent, and return their number.

    They were recorded before the backup, and most likely sent after it.
    """
    waiting = update(Notification).where(Notification.status == Status.PENDING)
    held = session.scalars(waiting.values(status=Status.HELD).returning(Notification.id))
    return len(held.all())
