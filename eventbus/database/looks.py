"""Looks at an index whose cost is bounded, however much a table holds or has held.

What leaves an index stays in it until a vacuum. So a look begins where the last one of this process
found something, and ends after so many rows.
"""

from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from sqlalchemy import ColumnElement, DateTime, Engine, cast, func, literal, text
from sqlalchemy.orm import Session

#: Rows that a look counts: one more stands for more than these.
MOST = 10_000

#: A look begins so much before what the last one found, and no later than so much before now: a row
#: may be committed that much after its own time.
SLACK = timedelta(minutes=5)

#: For one transaction. A planner that expects few rows, as the last ANALYZE saw few, would read and
#: sort all of them.
_BY_INDEX = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_sort', 'off', true),"
    " set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)"
)


class Looks:
    """The looks of this process at one index, in each of its databases."""

    def __init__(self) -> None:
        self._found: WeakKeyDictionary[Engine, datetime] = WeakKeyDictionary()

    def begin(self, session: Session) -> ColumnElement[datetime]:
        """Return the moment at which a look begins; its transaction goes by indexes from now on."""
        session.execute(_BY_INDEX)
        # PostgreSQL takes this for a time before all others.
        found = self._found.get(session.get_bind().engine) or "-infinity"
        return func.least(
            cast(literal(str(found)), DateTime(timezone=True)), func.now() - literal(SLACK)
        )

    def end(self, session: Session, first: datetime | None, now: datetime) -> None:
        """Note what a look has found: the moment of the first row, or None; and the database's."""
        self._found[session.get_bind().engine] = (first or now) - SLACK
