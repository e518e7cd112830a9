"""Process: sends the recorded mails, and removes the service's old rows."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

from celery import signals
from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from common import db
from common.kombu_topology import NOTIFICATION
from common.loop import Loop
from common.retention import read_ages
from common.ticker import make_ticker
from notification_worker import address
from notification_worker.delivery import Delivery
from notification_worker.metrics import read_mails
from notification_worker.retention import KEPT, retention
from notification_worker.settings import MailerSettings
from notification_worker.smtp import Transport

#: Seconds that one step may take. Each command to a mail server has a limit of its own, of minutes
#: (RFC 5321): a slow server is no reason to end the process, and so to repeat the mail.
LONGEST_STEP = 900.0


def start(settings: MailerSettings) -> Sequence[Loop]:
    """Return the loops of the process."""
    delivery = Delivery(
        db.sessions(db.engine(settings, session=db.BY_KEY)),
        Transport(settings),
        sender=address.sender(settings.mail_from),
        operator=settings.operator,
        max_attempts=settings.mail_max_attempts,
    )
    deliver = Loop("deliver", delivery.deliver, limit=LONGEST_STEP)
    return deliver, retention(settings).loop()


def _read(session: Session) -> Iterator[Metric]:
    yield from read_mails(session)
    yield from read_ages(session, KEPT)


app = make_ticker(
    NOTIFICATION,
    "mailer",
    start,
    MailerSettings,
    config="celeryconfig.ticker",
    read=_read,
)


def _give_way(**_: Any) -> None:
    os.nice(app.settings.mailer_niceness)


# Not in `start`, which a test may call in its own process.
signals.worker_init.connect(_give_way)
