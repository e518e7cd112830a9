"""The mailer's SQL statements, which claim due emails and record outcomes.

Every email passes through this module, so it is optimized for speed: each connection plans the
statements once, and one round trip records the outcome of an email and claims the next email.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from notification_worker.domain import LONGEST_DELAY, Status

#: Seconds for which a claim excludes other mailers unless the claim is renewed. If a mailer is
#: killed, the emails that it was sending wait for this time.
LEASE = 60

#: The delay, in seconds, of an email that waits for another email that is being sent.
SHORTLY = timedelta(milliseconds=250)

#: Maximum number of seconds between now and a future time, which is longer than any delay. A later
#: time was written by a wrong clock, and counts as past.
FURTHEST = 86_400

#: The maximum length of a stored error, in characters.
ERROR_LIMIT = 1_000

#: The key in the `info` of a connection that has prepared the statements.
_PREPARED = "notifications"

# The condition that selects emails that no mailer has claimed.
UNCLAIMED = f"""(
    claimed_until IS NULL
    OR claimed_until NOT BETWEEN now() AND now() + interval '{FURTHEST} seconds'
)"""
# The condition that selects emails whose next attempt is later than any delay permits.
STRAY = f"next_attempt_at > now() + interval '{FURTHEST} seconds'"

# Claimed emails keep their place in the index: there are at most as many as connections to mail
# servers. The emails that this mailer is sending are excluded by id, because it may be unable to
# renew its leases for a while. If the reply to a claim of this mailer is lost, the email can be
# claimed again immediately.
_FREE = f"({UNCLAIMED} OR claimed_by = $4) AND id <> ALL ($3)"

# The condition that selects emails without an attempt, from an id onwards. The place of a new email
# in the table determines whether it is due, rather than a clock: after a failover or a clock step,
# the clock may be behind the clock that recorded the email. The place is a range of the index,
# because with an equality, the planner would use the primary key, and would also read sent emails.
FRESH = "(next_attempt_at, id) > ('epoch', {}) AND next_attempt_at <= 'epoch'"
_FRESH = f"""(
    SELECT id FROM notifications
    WHERE status = 'PENDING' AND {FRESH.format("$1")} AND {_FREE}
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)"""  # noqa: S608, constants of this module
_AGAIN = f"""(
    SELECT id FROM notifications
    WHERE status = 'PENDING' AND next_attempt_at > $2 AND next_attempt_at <= now() AND {_FREE}
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)"""  # noqa: S608, constants of this module
_STRAY = f"""(
    SELECT id FROM notifications
    WHERE status = 'PENDING' AND {STRAY} AND {_FREE}
    ORDER BY next_attempt_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)"""  # noqa: S608, constants of this module

# A pending earlier email of the same order is not a condition of the claim: while a mail server
# rejects all emails for hours, each claim would scan all emails that wait for an earlier email.
# Such an email is put off instead. An earlier email that may have been sent does not delay later
# emails.
#
# The subquery does not test for PENDING. Otherwise, a plan that is made while the table is small
# would scan the index of all pending emails for each claim, instead of the index of the orders.
_CLAIM = f"""
WITH claimed AS (
    UPDATE notifications AS mail SET
        claimed_by = CASE WHEN earlier IS NULL THEN $4 END,
        claimed_until = CASE WHEN earlier IS NULL
            THEN clock_timestamp() + interval '{LEASE} seconds' END,
        next_attempt_at = CASE WHEN earlier IS NULL THEN mail.next_attempt_at
            ELSE least(
                greatest(earlier, clock_timestamp() + $5),
                clock_timestamp() + interval '{LONGEST_DELAY} seconds'
            ) END,
        unsure = mail.unsure + taken_over::int
    FROM (
        SELECT id AS chosen, coalesce(claimed_by <> $4, false) AS taken_over,
            next_attempt_at AS due_at, (
            SELECT max(earlier.next_attempt_at) FROM notifications AS earlier
            WHERE earlier.order_id = notifications.order_id
                AND earlier.sequence < notifications.sequence
                AND earlier.status NOT IN ('SENT', 'FAILED', 'HELD')
                AND earlier.unsure = 0
        ) AS earlier
        FROM notifications WHERE id = coalesce({{}}, {{}}, {_STRAY})
        OFFSET 0  -- otherwise it is read once for each column derived from it
    ) AS choice
    WHERE mail.id = chosen
    RETURNING id, order_id, kind, recipient, context, attempts, unsure, traceparent, created_at,
        due_at, due_at = 'epoch' AS fresh, earlier IS NOT NULL AS put_off,
        taken_over
)
SELECT now(), CASE WHEN claimed.id IS NULL THEN (SELECT max(id) FROM notifications) END, claimed.*
FROM (VALUES (1)) AS one LEFT JOIN claimed ON true
"""  # noqa: S608, constants of this module

_TYPES = "(bigint, timestamptz, bigint[], uuid, interval)"

# The time of a mark is not now(), which is the start of the transaction. If another mailer has
# taken over a claim, the mark records only that the email was sent, which only this mailer can
# report.
_PREPARE = f"""
PREPARE claim_fresh {_TYPES} AS {_CLAIM.format(_FRESH, _AGAIN)};
PREPARE claim_again {_TYPES} AS {_CLAIM.format(_AGAIN, _FRESH)};

PREPARE mark_mail (bigint, uuid, text, int, int, text, text, interval) AS
UPDATE notifications SET
    status = $3,
    attempts = attempts + $4,
    unsure = unsure + $5,
    message_id = $6,
    last_error = coalesce($7, last_error),
    next_attempt_at = coalesce(clock_timestamp() + $8, next_attempt_at),
    sent_at = CASE $3 WHEN 'SENT' THEN clock_timestamp() END,
    claimed_by = NULL,
    claimed_until = NULL
WHERE id = $1 AND status = 'PENDING' AND (claimed_by = $2 OR $3 = 'SENT');

PREPARE renew_claims (bigint[], uuid) AS
UPDATE notifications SET claimed_until = clock_timestamp() + interval '{LEASE} seconds'
WHERE id = ANY ($1) AND claimed_by = $2
"""  # noqa: S608, constants of this module

_MARK = "EXECUTE mark_mail (%s, %s, %s, %s, %s, %s, %s, %s)"


class Claimed(NamedTuple):
    """A claimed email, which no other mailer can claim while this claim is renewed."""

    id: int
    order_id: UUID
    kind: str
    recipient: str
    context: dict[str, Any]
    attempts: int
    unsure: int
    traceparent: str | None
    created_at: datetime
    due_at: datetime
    #: Whether the email has never been attempted.
    fresh: bool
    #: Whether the email waits for an earlier email of its order, in which case it is put off, not
    #: claimed.
    put_off: bool
    #: Whether another mailer has claimed the email and has not recorded an outcome.
    taken_over: bool


class Mark(NamedTuple):
    """The outcome to record for a claimed email."""

    id: int
    status: Status
    message_id: str
    error: str | None = None
    #: Seconds until the next attempt; None leaves its time unchanged.
    delay: float | None = None
    #: Whether the attempt counts, and whether it may have sent the email.
    charged: bool = True
    unsure: bool = False

    def values(self, owner: str) -> tuple[object, ...]:
        """Return the parameters of the statement."""
        delay = None if self.delay is None else timedelta(seconds=self.delay)
        error = None if self.error is None else _stored(self.error)
        counts = (int(self.charged), int(self.unsure))
        return (self.id, owner, self.status.value, *counts, self.message_id, error, delay)


class Scan(NamedTuple):
    """The result of a claim, with the database's time."""

    at: datetime
    #: The newest email, if no email is due.
    newest: int | None
    mail: Claimed | None


def claim(
    connection: Connection, *, again: bool, values: tuple[object, ...], mark: tuple[object, ...]
) -> Scan:
    """Record a mark, if there is one, and claim an email, in one round trip and one commit.

    With `again`, emails that are due again come before emails without an attempt, otherwise after.
    """
    _prepare(connection)
    name = "claim_again" if again else "claim_fresh"
    statement = f"EXECUTE {name} (%s, %s, %s, %s, %s)"
    if mark:
        statement = f"{_MARK}; {statement}"
    row = connection.exec_driver_sql(statement, (*mark, *values)).one()
    return Scan(row[0], row[1], Claimed(*row[2:]) if row[2] is not None else None)


def record(connection: Connection, mark: tuple[object, ...]) -> None:
    """Record a mark."""
    _prepare(connection)
    connection.exec_driver_sql(_MARK, mark)


def renew(connection: Connection, ids: list[int], owner: str) -> None:
    """Extend the claims of these emails."""
    _prepare(connection)
    connection.exec_driver_sql("EXECUTE renew_claims (%s, %s)", (ids, owner))


def _prepare(connection: Connection) -> None:
    if _PREPARED not in connection.info:
        connection.exec_driver_sql(_PREPARE)
        connection.info[_PREPARED] = True


def _stored(error: str) -> str:
    # The reply of a server may contain characters that cannot be stored, with which the mark would
    # fail repeatedly.
    return error.replace("\x00", "").encode("utf-8", "replace").decode()[:ERROR_LIMIT]
