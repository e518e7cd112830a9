"""The mails that wait: claiming what is due, and recording what became of it.

All mails pass here, so that it is made for speed: plans that each connection makes once, and one
round trip for a mail, which commits what became of it and claims the next one.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, func, select
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

#: In the `info` of a connection that knows the statements.
_PREPARED = "notifications"

# Whether an earlier one of its order waits is no condition of the claim: while a mail server
# refuses everything for hours, each claim would pass over all the mails that wait for one.
#
# Nor does it ask for PENDING ones: a plan that is made while the table is small would go through
# the index of all that wait, for each claim, rather than through that of the orders.
#
# The time of a mark is not now(), which is when the transaction began: sending may have taken long.
_PREPARE = """
PREPARE claim_mail (timestamptz) AS
SELECT id, order_id, kind, recipient, context, attempts, traceparent, created_at, next_attempt_at, (
    SELECT max(earlier.next_attempt_at) FROM notifications AS earlier
    WHERE earlier.order_id = notifications.order_id
        AND earlier.sequence < notifications.sequence
        AND earlier.status NOT IN ('SENT', 'FAILED', 'HELD')
)
FROM notifications
WHERE status = 'PENDING' AND next_attempt_at BETWEEN $1 AND now()
ORDER BY next_attempt_at, id
LIMIT 1
FOR UPDATE SKIP LOCKED;

PREPARE mark_mail (bigint, text, text, text, interval) AS
UPDATE notifications SET
    status = $2,
    attempts = attempts + 1,
    message_id = $3,
    last_error = coalesce($4, last_error),
    next_attempt_at = coalesce(clock_timestamp() + $5, next_attempt_at),
    sent_at = CASE $2 WHEN 'SENT' THEN clock_timestamp() END
WHERE id = $1;

PREPARE postpone_mail (bigint, timestamptz, interval) AS
UPDATE notifications SET next_attempt_at = greatest($2, clock_timestamp() + $3) WHERE id = $1
"""

_CLAIM = "EXECUTE claim_mail (%s)"
_FROM_THE_FIRST = "-infinity"
_THEN = "; COMMIT AND CHAIN; "  # commits, and begins a transaction


class Claimed(NamedTuple):
    """A mail that nobody else gets in this transaction."""

    id: int
    order_id: UUID
    kind: str
    recipient: str
    context: dict[str, Any]
    attempts: int
    traceparent: str | None
    created_at: datetime
    next_attempt_at: datetime
    #: When the earlier ones of its order are due, if they have not left yet.
    earlier: datetime | None


class Mark(NamedTuple):
    """What is to be recorded of a claimed mail: a statement and its values."""

    statement: str
    values: tuple[object, ...]


def anything_due(session: Session) -> bool:
    """Return whether there may be a mail to send now."""
    due = select(Notification.id).where(
        Notification.status == Status.PENDING, Notification.next_attempt_at <= func.now()
    )
    return session.scalars(due.order_by(Notification.next_attempt_at).limit(1)).first() is not None


def claim(connection: Connection) -> Claimed | None:
    """Return the mail that is due for longest, or None; nobody else gets it in this transaction."""
    if _PREPARED not in connection.info:
        connection.exec_driver_sql(_PREPARE)
        connection.info[_PREPARED] = True
    return _claimed(connection, _CLAIM, (_FROM_THE_FIRST,))


def record(connection: Connection, mark: Mark) -> None:
    """Record what became of a claimed mail, and commit."""
    connection.exec_driver_sql(mark.statement, mark.values)
    connection.commit()


def record_and_claim(connection: Connection, mark: Mark, *, since: datetime) -> Claimed | None:
    """Record what became of a claimed mail, commit, and claim the next one: one round trip.

    It looks among those that are due `since` then, and so does not pass over all that were sent
    before, which stay in the index until a vacuum.
    """
    # The driver goes on to see one transaction, so that it can roll back the second.
    return _claimed(connection, mark.statement + _THEN + _CLAIM, (*mark.values, since))


def postponed(mail: Claimed) -> Mark:
    """Return the mark that puts a mail off until the earlier ones of its order are due."""
    # An earlier one that is due already is being sent by another mailer.
    return Mark("EXECUTE postpone_mail (%s, %s, %s)", (mail.id, mail.earlier, SHORTLY))


def sent(mail: Claimed, *, message_id: str) -> Mark:
    """Return the mark of a mail that the mail server has taken."""
    return _mark(mail, Status.SENT, message_id)


def deferred(mail: Claimed, *, message_id: str, error: str, delay: float) -> Mark:
    """Return the mark of a failed attempt; the next one is not before `delay` seconds from now."""
    return _mark(mail, Status.PENDING, message_id, _stored(error), timedelta(seconds=delay))


def failed(mail: Claimed, *, message_id: str, error: str) -> Mark:
    """Return the mark of a mail that is given up."""
    return _mark(mail, Status.FAILED, message_id, _stored(error))


def _mark(
    mail: Claimed,
    status: Status,
    message_id: str,
    error: str | None = None,
    delay: timedelta | None = None,
) -> Mark:
    values = (mail.id, status.value, message_id, error, delay)
    return Mark("EXECUTE mark_mail (%s, %s, %s, %s, %s)", values)


def _claimed(connection: Connection, statement: str, values: tuple[object, ...]) -> Claimed | None:
    row = connection.exec_driver_sql(statement, values).first()
    return Claimed(*row) if row else None


def _stored(error: str) -> str:
    return error.replace("\x00", "")[:ERROR_LIMIT]
