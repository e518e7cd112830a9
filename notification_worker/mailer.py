"""Process: sends the recorded mails."""

from collections.abc import Callable

from common import db
from common.kombu_topology import NOTIFICATION
from common.ticker import make_ticker
from notification_worker import address
from notification_worker.delivery import Delivery
from notification_worker.metrics import read_mails
from notification_worker.settings import MailerSettings
from notification_worker.smtp import Transport


def start(settings: MailerSettings) -> Callable[[float], None]:
    """Return what each tick calls: it sends mails until its deadline."""
    return Delivery(
        db.sessions(db.engine(settings)),
        Transport(settings),
        sender=address.sender(settings.mail_from),
        max_attempts=settings.mail_max_attempts,
    ).deliver


app = make_ticker(
    NOTIFICATION,
    "mailer",
    start,
    MailerSettings,
    config="celeryconfig.ticker",
    read=read_mails,
)
