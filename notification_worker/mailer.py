"""The process that sends the recorded emails, deletes old rows, and catches up."""

import atexit
from collections.abc import Iterator, Sequence

from prometheus_client.core import Metric
from sqlalchemy.orm import Session

from eventbus.catch_up.catch_up import CatchUp
from eventbus.catch_up.overflow import read_overflow
from eventbus.consumer.retention import read_ages
from eventbus.database import db
from eventbus.loop import Loop
from eventbus.worker.ticker import make_ticker
from notification_worker.declaration import NOTIFICATION
from notification_worker.delivery import Delivery
from notification_worker.mail import address
from notification_worker.mail_queue import Position
from notification_worker.metrics import read_mails
from notification_worker.outage import Outage
from notification_worker.retention import RULES, retention
from notification_worker.settings import MailerSettings
from notification_worker.smtp.transport import Transport

#: Number of database connections: one to wait for emails, and one for all claims and marks. Sending
#: an email does not use a connection.
_POOL_SIZE = 2

#: Maximum seconds for one step. Each command to a mail server has its own limit of several minutes
#: (RFC 5321). A slow server must not cause the termination of the process, after which the email
#: would be sent again.
LONGEST_STEP = 900.0

# The metrics of this process report this position and this outage, because it has only one
# delivery.
_position, _outage = Position(), Outage()


def start(settings: MailerSettings) -> Sequence[Loop]:
    """Return the loops of the process."""
    delivery = Delivery(
        db.sessions(db.engine(settings, pool_size=_POOL_SIZE, session=db.BY_KEY, is_limited=True)),
        [Transport(settings) for _ in range(settings.smtp_connections)],
        sender=address.sender(settings.mail_from),
        operator=settings.operator,
        max_attempts=settings.mail_max_attempts,
        position=_position,
        outage=_outage,
    )
    atexit.register(delivery.close)
    deliver = Loop("deliver", delivery.deliver, limit=LONGEST_STEP)
    catch_up = CatchUp.from_settings(NOTIFICATION, settings)
    return deliver, retention(settings).loop(), catch_up.loop()


def _read(session: Session) -> Iterator[Metric]:
    yield from read_mails(session, _position, _outage)
    yield from read_overflow(session)
    yield from read_ages(session, RULES)


app = make_ticker(
    NOTIFICATION,
    "mailer",
    start,
    MailerSettings,
    config="celeryconfig.ticker",
    read=_read,
)
