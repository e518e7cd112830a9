"""What the mailer's metrics show of the mails."""

from collections.abc import Iterator

from prometheus_client.core import Metric
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from common.backlog import age
from common.metrics import gauge
from notification_worker.domain import Status
from notification_worker.models import Notification


def read_mails(session: Session) -> Iterator[Metric]:
    """Return how many mails wait, for how long, and how many were given up."""
    row = session.execute(
        select(
            func.count(),
            age(func.min(Notification.created_at)),
            age(func.min(Notification.next_attempt_at)),
        ).where(Notification.status == Status.PENDING)
    ).one()
    yield gauge("orders_mail_waiting", "Mails that no mail server has taken yet.", row[0])
    yield gauge("orders_mail_oldest_waiting_seconds", "Age of the oldest of them.", row[1])
    yield gauge(
        "orders_mail_overdue_seconds",
        "For how long the next of them could have left: 0 while each waits for its next attempt.",
        row[2],
    )
    failed = select(func.count()).where(Notification.status == Status.FAILED)
    yield gauge("orders_mail_failed", "Mails given up.", session.scalar(failed) or 0)
