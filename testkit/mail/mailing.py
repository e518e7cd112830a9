"""A mailer on a test's mail server and database."""

import time
from typing import Any
from uuid import UUID, uuid4

import certifi
from sqlalchemy import func, select, update

from eventbus.database.db import Sessions, engine_of, transaction
from notification_worker.delivery import Delivery
from notification_worker.mail import address
from notification_worker.mail_queue import Backlog, Position
from notification_worker.models import Notification
from notification_worker.settings import MailerSettings
from notification_worker.smtp.transport import Transport
from testkit.mail.mailbox import Mailbox

CONTEXT = {
    "currency": "EUR",
    "total": 2980,
    "lines": [{"sku": "COFFEE", "quantity": 2, "unit_price": 1490}],
    "shortages": [],
    "reason": "customer",
}


def settings(port: int, **changes: Any) -> MailerSettings:
    """Return a mailer's settings for the mail server at this port."""
    values: dict[str, Any] = {
        "broker_user": "notification",
        "broker_password": "unused",
        "database_name": "unused",
        "database_user": "unused",
        "database_password": "unused",
        "broker_ca_file": certifi.where(),
        "database_ca_file": certifi.where(),
        "mail_from": "Shop <orders@shop.example>",
        "smtp_host": "127.0.0.1",
        "smtp_port": port,
        # A mail server on a busy machine may take seconds.
        "smtp_connect_timeout": 30.0,
    }
    return MailerSettings(**(values | changes))


def delivery(sessions: Sessions, *transports: Transport, max_attempts: int = 230) -> Delivery:
    """Return the delivery of a database's emails over these connections."""
    return Delivery(
        sessions,
        transports,
        sender=address.sender("Shop <orders@shop.example>"),
        operator="operator@shop.example",
        max_attempts=max_attempts,
    )


def deliver_all(delivery: Delivery, *, seconds: float = 0.2) -> None:
    """Send the due emails, and wait until sending has ended."""
    # On a busy machine, a slice may end before the first email, so several slices are allowed.
    for _ in range(5):
        delivery.deliver(time.monotonic() + seconds)
        delivery.finish(within=60)
        mails = Backlog(delivery._backlog._sessions, Position())
        try:
            if not mails.anything_due():
                return
        finally:
            # Without this call, the garbage collector would close the connection during another
            # test.
            mails.release()


def record(sessions: Sessions, *kinds: str, order_id: UUID | None = None, **values: Any) -> UUID:
    """Record an email of each kind about one order, and return the order's id."""
    order_id = order_id or uuid4()
    with transaction(sessions) as session:
        for sequence, kind in enumerate(kinds, start=1):
            row: dict[str, Any] = {
                "order_id": order_id,
                "kind": kind,
                "sequence": sequence,
                "recipient": "ann@example.com",
                "context": CONTEXT,
            }
            session.add(Notification(**(row | values)))
            session.flush()
    return order_id


def rows(sessions: Sessions) -> list[Notification]:
    """Return all emails in the order in which they were recorded."""
    with transaction(sessions) as session:
        return list(session.scalars(select(Notification).order_by(Notification.id)))


def statuses(sessions: Sessions) -> list[str]:
    """Return the status of each email, the oldest first."""
    return [row.status for row in rows(sessions)]


def make_due(sessions: Sessions) -> None:
    """Make each email due now."""
    with transaction(sessions) as session:
        later = Notification.next_attempt_at > func.now()
        session.execute(update(Notification).where(later).values(next_attempt_at=func.now()))


def expire_claims(sessions: Sessions) -> None:
    """Expire the leases of all claims, as if their mailer had crashed earlier."""
    with transaction(sessions) as session:
        session.execute(
            update(Notification)
            .where(Notification.claimed_by.is_not(None))
            .values(claimed_until=func.now())
        )


def of_database(sessions: Sessions) -> dict[str, Any]:
    """Return the settings with which another process connects to the same database."""
    url = engine_of(sessions).url
    return {
        "database_host": url.host,
        "database_port": url.port,
        "database_name": url.database,
        "database_user": url.username,
        "database_password": url.password or "",
        "database_ca_file": url.query["sslrootcert"],
    }


def subjects(mailbox: Mailbox) -> list[str]:
    """Return the subjects of the emails that have arrived."""
    return [str(message["Subject"]) for message in mailbox.messages]
