"""Index scans whose cost does not depend on how many rows a table has or had.

Entries of deleted rows stay in an index until a vacuum. A scan therefore starts at the first row of
this process's previous scan, and ends after a limited number of rows. At intervals it starts at the
first entry, because earlier rows may return: after a restore of the database, or if events are sent
again.
"""

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, DateTime, Engine, cast, func, literal, text
from sqlalchemy.orm import Session

#: The maximum number of rows that a scan counts exactly; if there are more, the count is one
#: higher.
MAX_ROWS = 10_000

#: A scan starts this long before the row that the previous scan found, and at least this long
#: before now, because a row may be committed this long after its own timestamp.
SLACK = timedelta(minutes=5)

#: Minimum seconds between two scans from the first entry, and their maximum share of the time.
FULL_INTERVAL = 60.0
FULL_SHARE = 0.02

#: The parameters that make one transaction read indexes in order. If the last ANALYZE saw few rows,
#: the planner would otherwise read and sort all rows.
_BY_INDEX = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)"
)


def by_index(session: Session) -> None:
    """Make the rest of the transaction read indexes in order, regardless of the planner's costs."""
    session.execute(_BY_INDEX)


@dataclass(slots=True)
class _Progress:
    """The scans of one database: the start of the next, and of the next full one."""

    #: In PostgreSQL this is earlier than any other time.
    start: datetime | str = "-infinity"
    #: By `time.monotonic()`.
    next_full: float = 0.0
    #: When the current scan began, if it is a full one.
    full_since: float | None = None


class BoundedScan:
    """A repeated scan of one index, with its next start in each database of this process."""

    def __init__(self) -> None:
        self._databases: WeakKeyDictionary[Engine, _Progress] = WeakKeyDictionary()

    def begin(self, session: Session) -> ColumnElement[datetime]:
        """Return the time to scan from; the rest of the transaction scans indexes only."""
        by_index(session)
        progress = self._progress(session)
        if time.monotonic() >= progress.next_full:
            progress.start, progress.full_since = "-infinity", time.monotonic()
        return func.least(
            cast(literal(str(progress.start)), DateTime(timezone=True)),
            func.now() - literal(SLACK),
        )

    def end(self, session: Session, first: datetime | None, now: datetime) -> None:
        """Record the time of the first row found, or None, and the time of the database."""
        progress = self._progress(session)
        progress.start = (first or now) - SLACK
        if (began := progress.full_since) is not None:
            seconds = time.monotonic() - began
            progress.next_full = began + seconds + max(FULL_INTERVAL, seconds / FULL_SHARE)
            progress.full_since = None

    def _progress(self, session: Session) -> _Progress:
        return self._databases.setdefault(session.get_bind().engine, _Progress())
