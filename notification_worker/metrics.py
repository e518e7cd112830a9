"""The mailer's metrics. The cost of a scrape does not depend on the number of waiting emails."""

from collections.abc import Iterator

from prometheus_client import Counter
from prometheus_client.core import Metric
from sqlalchemy import text
from sqlalchemy.orm import Session

from eventbus.telemetry.metrics import gauge
from notification_worker.claims import FRESH
from notification_worker.mail_queue import Position
from notification_worker.outage import Outage

#: Maximum number of rows that a scrape counts. A higher exact number would not change any decision.
COUNT_LIMIT = 10_000

MAILS = Counter("orders_mails", "Attempts to send an email, by outcome.", ("outcome",))
for _outcome in ("sent", "deferred", "unsure", "given_up"):
    # The counters start at 0, so that the first increase is visible.
    MAILS.labels(_outcome)

# The scan starts at the position of the mailer, for the same reason as the claims. The first new
# email is the oldest. Other emails are few, or counted up to the limit.
_WAITING = text(f"""
WITH fresh AS (
    SELECT created_at, claimed_until FROM notifications
    WHERE status = 'PENDING' AND {FRESH.format(":fresh")}
    ORDER BY next_attempt_at, id LIMIT :limit
), again AS (
    SELECT created_at, claimed_until, next_attempt_at FROM notifications
    WHERE status = 'PENDING' AND next_attempt_at > :again
    ORDER BY next_attempt_at, id LIMIT :limit
), waiting AS (
    SELECT created_at, claimed_until, created_at AS due_at FROM fresh
    UNION ALL SELECT created_at, claimed_until, next_attempt_at FROM again
)
SELECT least(count(*), :limit),
    coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(created_at))), 0)::float,
    coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(due_at) FILTER (
        WHERE claimed_until IS NULL OR claimed_until <= now()
    ))), 0)::float
FROM waiting
""")  # noqa: S608, constants of these modules

_FAILED = text("""
SELECT count(*) FROM (
    SELECT FROM notifications WHERE status = 'FAILED' ORDER BY id LIMIT :limit
) AS failed
""")


def read_mails(session: Session, position: Position, outage: Outage) -> Iterator[Metric]:
    """Yield the number of pending emails and their age, and the number of failed emails."""
    fresh, again = position.values
    values = {"fresh": fresh, "again": again, "limit": COUNT_LIMIT}
    waiting, oldest, overdue = session.execute(_WAITING, values).one()
    yield gauge(
        "orders_mail_waiting",
        f"Emails that no mail server has accepted yet; counted up to {COUNT_LIMIT}.",
        waiting,
    )
    yield gauge("orders_mail_oldest_waiting_seconds", "Age of the oldest pending email.", oldest)
    yield gauge(
        "orders_mail_overdue_seconds",
        "Time for which the next email has been overdue; 0 while each waits for its next attempt.",
        overdue,
    )
    failed = session.scalar(_FAILED, {"limit": COUNT_LIMIT}) or 0
    yield gauge("orders_mail_failed", f"Abandoned emails; counted up to {COUNT_LIMIT}.", failed)
    yield gauge(
        "orders_mail_paused_seconds",
        "Time for which sending has been paused because no server accepts emails; 0 if it is not.",
        outage.seconds(),
    )
