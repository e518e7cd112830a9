"""Retention: rows that nobody needs any more are removed, by their age, a few at a time.

It takes no row that somebody else has locked, waits for no lock, and reads each table by an index.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import (
    ColumnElement,
    Table,
    column,
    delete,
    func,
    select,
    true,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningDelete

from eventbus.consumer.inbox import inbox
from eventbus.database.db import Sessions, transaction
from eventbus.database.looks import Looks
from eventbus.loop import Loop
from eventbus.outbox.lag import age
from eventbus.outbox.table import outbox
from eventbus.telemetry import metrics

log = logging.getLogger(__name__)

#: Rows removed in one statement, which takes some milliseconds.
BATCH = 1_000

#: Seconds between two statements: most of the time the database works for others.
PAUSE = 0.05

#: Seconds from the begin of one pass to the next, and the most that one takes. Together these allow
#: some 400,000 rows in a minute, several times what a service writes.
INTERVAL = 60.0
LONGEST_PASS = 30.0

#: Seconds after which a pass that has not ended, or passes that all failed, end the process.
LIMIT = 3 * INTERVAL


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """A table whose rows are kept for a time.

    Their age counts from `since`, which an index must serve. One without it is kept for ever, and
    so is one for which `where` does not hold.
    """

    table: Table
    since: ColumnElement[datetime]
    where: ColumnElement[bool] = field(default_factory=true)
    #: For the age of the oldest row.
    looks: Looks = field(default_factory=Looks)


#: An unsent event has no `sent_at`: it is never removed.
OUTBOX = Kept(table=outbox, since=outbox.c.sent_at)
INBOX = Kept(table=inbox, since=inbox.c.handled_at)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """What one statement has removed: how many rows, and up to which moment."""

    rows: int
    last: datetime | None


class Retention:
    """Removes the old rows of one service's database."""

    def __init__(self, sessions: Sessions, days: Mapping[Kept, int]) -> None:
        self._sessions = sessions
        self._ages = {kept: timedelta(days=n) for kept, n in days.items()}
        for kept, oldest in self._ages.items():
            metrics.RETENTION.labels(kept.table.name).set(oldest.total_seconds())

    def loop(self) -> Loop:
        """Return the loop that makes the passes: neither an event nor a mail waits for them."""
        return Loop("retention", self._pass, interval=INTERVAL, limit=LIMIT)

    def remove(self, until: float) -> Counter[str]:
        """Remove what is too old, until `time.monotonic()` is `until`; returns rows by table.

        The tables take turns: one that has much does not keep the others waiting. A database that
        fails is logged: the next pass tries again.
        """
        removed: Counter[str] = Counter()
        # The first look of a pass begins at the first row, the next one where that has ended: what
        # it has removed stays in the index until a vacuum.
        waiting = deque[tuple[Kept, timedelta, datetime | None]](
            (kept, oldest, None) for kept, oldest in self._ages.items()
        )
        try:
            while waiting and time.monotonic() < until:
                kept, oldest, begin = waiting.popleft()
                with transaction(self._sessions) as session:
                    some = _remove_some(session, kept, oldest, begin)
                removed[kept.table.name] += some.rows
                metrics.REMOVED.labels(kept.table.name).inc(some.rows)
                if some.rows == BATCH:
                    waiting.append((kept, oldest, some.last))
                time.sleep(PAUSE)
        except DBAPIError as error:
            log.error(
                "the database failed the retention", extra={"reason": str(error.orig).strip()}
            )
        for table, rows in (+removed).items():
            log.info("old rows are removed", extra={"table": table, "rows": rows})
        return removed

    def _pass(self, _until: float) -> None:
        self.remove(time.monotonic() + LONGEST_PASS)


def read_ages(session: Session, kept: Iterable[Kept]) -> Iterator[Metric]:
    """Return what the metrics show of these tables: how old the oldest row is that will go."""
    oldest = GaugeMetricFamily(
        "orders_oldest_row_seconds",
        "Age of the oldest row that retention will remove, by table.",
        labels=("table",),
    )
    for each in kept:
        oldest.add_metric((each.table.name,), _age_of_oldest(session, each))
    yield oldest


def _age_of_oldest(session: Session, kept: Kept) -> float:
    first = (
        select(kept.since.label("since"))
        .where(kept.since >= kept.looks.begin(session), kept.where)
        .order_by(kept.since)
        .limit(1)
        .subquery()
    )
    since = func.min(first.c.since)
    row = session.execute(select(age(since), since, func.now()).select_from(first)).one()
    kept.looks.end(session, row[1], row[2])
    return float(row[0])


def _remove_some(
    session: Session, kept: Kept, oldest: timedelta, begin: datetime | None = None
) -> Removed:
    removed = session.execute(_removal(kept, oldest, begin)).scalars().all()
    return Removed(rows=len(removed), last=max(removed, default=begin))


def _removal(
    kept: Kept, oldest: timedelta, begin: datetime | None = None
) -> ReturningDelete[datetime]:
    row: ColumnElement[Any] = column("ctid")
    some = (
        select(row)
        .select_from(kept.table)
        .where(kept.since < func.now() - oldest, kept.where, _not_before(kept, begin))
        .order_by(kept.since)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    # An array: a subselect might be run for each row, and lock others each time.
    chosen = func.array(some.scalar_subquery())
    return delete(kept.table).where(row == func.any(chosen)).returning(kept.since)


def _not_before(kept: Kept, begin: datetime | None) -> ColumnElement[bool]:
    return true() if begin is None else kept.since >= begin
