"""Retention: old rows are deleted in small batches.

Locked rows are skipped without waiting, and each table is read through an index.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
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
from eventbus.database.bounded_scan import BoundedScan
from eventbus.database.db import Sessions, transaction
from eventbus.loop import Loop
from eventbus.outbox.lag import age
from eventbus.outbox.table import outbox
from eventbus.telemetry import metrics
from eventbus.telemetry.privacy import described

log = logging.getLogger(__name__)

#: Number of rows that one statement deletes, which takes a few milliseconds.
BATCH = 1_000

#: Seconds between two statements, which leave most of the database's time to other work.
PAUSE = 0.05

#: Seconds from the start of one pass to the next, and the maximum duration of a pass. Together they
#: allow about 400,000 rows per minute, several times the number that a service writes.
INTERVAL = 60.0
LONGEST_PASS = 30.0

#: The maximum difference between the clocks of the process and of the database at which rows are
#: deleted. The clocks of working machines differ by less. With a clock that is years ahead, every
#: row would be deleted, including the dedup keys that prevent duplicate effects.
MAX_SKEW = timedelta(hours=1)

#: Seconds after which the process exits if a pass has not ended, or if every pass has failed.
LIMIT = 3 * INTERVAL


@dataclass(frozen=True, kw_only=True, eq=False)
class RetentionRule:
    """A retention rule: a table whose rows are kept for a limited time.

    The age of a row counts from `since`, which must be indexed. Rows for which `since` is null or
    `where` is false are kept indefinitely.
    """

    table: Table
    since: ColumnElement[datetime]
    where: ColumnElement[bool] = field(default_factory=true)
    #: The scan that bounds the cost of finding the oldest row.
    scan: BoundedScan = field(default_factory=BoundedScan)


#: An unsent event has no `sent_at` and is therefore never deleted.
OUTBOX = RetentionRule(table=outbox, since=outbox.c.sent_at)
INBOX = RetentionRule(table=inbox, since=inbox.c.handled_at)


@dataclass(frozen=True, kw_only=True)
class Removed:
    """The result of one statement: the number of deleted rows, and the time of the last row."""

    rows: int
    last: datetime | None


class Retention:
    """The deletion of old rows from one service's database."""

    def __init__(self, sessions: Sessions, days: Mapping[RetentionRule, int]) -> None:
        self._sessions = sessions
        self._max_ages = {rule: timedelta(days=n) for rule, n in days.items()}
        for rule, max_age in self._max_ages.items():
            metrics.RETENTION.labels(rule.table.name).set(max_age.total_seconds())

    def loop(self) -> Loop:
        """Return the loop that runs the passes, on its own thread."""
        return Loop("retention", self._pass, interval=INTERVAL, limit=LIMIT)

    def remove(self, until: float) -> Counter[str]:
        """Delete expired rows until `time.monotonic()` reaches `until`, and return counts by table.

        Tables are processed in turn, so a table with many expired rows does not delay other tables.
        A database error is logged, and the next pass retries. Nothing is deleted while the clocks
        of the database and of this process differ too much.
        """
        removed: Counter[str] = Counter()
        # The first scan of a pass starts at the first row, and each later scan at the end of the
        # previous scan, because entries of deleted rows stay in the index until a vacuum.
        pending = deque[tuple[RetentionRule, timedelta, datetime | None]](
            (rule, max_age, None) for rule, max_age in self._max_ages.items()
        )
        try:
            if not self._clocks_agree():
                return removed
            while pending and time.monotonic() < until:
                rule, max_age, start = pending.popleft()
                with transaction(self._sessions) as session:
                    batch = _remove_some(session, rule, max_age, start)
                removed[rule.table.name] += batch.rows
                metrics.REMOVED.labels(rule.table.name).inc(batch.rows)
                if batch.rows == BATCH:
                    pending.append((rule, max_age, batch.last))
                time.sleep(PAUSE)
        except DBAPIError as error:
            log.error("retention interrupted", extra={"reason": described(error)})
        for table, rows in (+removed).items():
            log.info("old rows deleted", extra={"table": table, "rows": rows})
        return removed

    def _clocks_agree(self) -> bool:
        with transaction(self._sessions) as session:
            there: datetime = session.execute(
                select(func.pg_catalog.clock_timestamp())
            ).scalar_one()
        difference = there - datetime.now(UTC)
        if abs(difference) <= MAX_SKEW:
            return True
        fields = {"difference_seconds": round(difference.total_seconds())}
        log.error("retention suspended, because two clocks disagree", extra=fields)
        return False

    def _pass(self, _until: float) -> None:
        self.remove(time.monotonic() + LONGEST_PASS)


def read_ages(session: Session, rules: Iterable[RetentionRule]) -> Iterator[Metric]:
    """Return the metric with the age of the oldest row that each rule will delete."""
    ages = GaugeMetricFamily(
        "orders_oldest_row_seconds",
        "Age of the oldest row that retention will remove, by table.",
        labels=("table",),
    )
    for rule in rules:
        ages.add_metric((rule.table.name,), _age_of_oldest(session, rule))
    yield ages


def _age_of_oldest(session: Session, rule: RetentionRule) -> float:
    first = (
        select(rule.since.label("since"))
        .where(rule.since >= rule.scan.begin(session), rule.where)
        .order_by(rule.since)
        .limit(1)
        .subquery()
    )
    since = func.min(first.c.since)
    row = session.execute(select(age(since), since, func.now()).select_from(first)).one()
    rule.scan.end(session, row[1], row[2])
    return float(row[0])


def _remove_some(
    session: Session, rule: RetentionRule, max_age: timedelta, start: datetime | None = None
) -> Removed:
    removed = session.execute(_removal(rule, max_age, start)).scalars().all()
    return Removed(rows=len(removed), last=max(removed, default=start))


def _removal(
    rule: RetentionRule, max_age: timedelta, start: datetime | None = None
) -> ReturningDelete[datetime]:
    row: ColumnElement[Any] = column("ctid")
    expired = (
        select(row)
        .select_from(rule.table)
        .where(rule.since < func.now() - max_age, rule.where, _not_before(rule, start))
        .order_by(rule.since)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    # The rows are selected as an array, because a subselect might run once per row and lock
    # different rows each time.
    ctids = func.array(expired.scalar_subquery())
    return delete(rule.table).where(row == func.any(ctids)).returning(rule.since)


def _not_before(rule: RetentionRule, start: datetime | None) -> ColumnElement[bool]:
    return true() if start is None else rule.since >= start
