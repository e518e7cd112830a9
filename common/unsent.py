"""The unsent events of an outbox, as the one relay sees them that may take them.

Each statement commits by itself: nothing here needs two, and each round trip delays every event
behind it. What need not be answered goes with the next statement.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult, Row

from common.db import Sessions
from common.doorbell import Doorbell
from common.outbox import outbox

Rows = Sequence[Row[tuple[Any, ...]]]

#: Seconds until the first event is due; a look at the first entry of an index.
DUE = """
SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float
FROM outbox WHERE sent_at IS NULL AND next_attempt_at >= %s
"""

#: Seconds before the first event of a claim, from which on the next one looks. What was sent stays
#: in the index until a vacuum, and each look passes over it: after a backlog, or among millions of
#: rows, that takes more than all the rest. Who is older than that, as its transaction lasted long
#: or it waited for an earlier event, is found by the first look of the next tick.
_BACK = timedelta(seconds=5)
_FROM_THE_FIRST = "-infinity"

# One relay at a time: its connection keeps the lock, and the connection's end is the lock's, too.
_LOCK = "SELECT pg_try_advisory_lock(hashtext('outbox'))"
_UNLOCK = "SELECT pg_advisory_unlock_all()"

# An event waits for the earlier ones of its order: they may be unroutable, or refused. Each is
# looked up among its order's few, whatever the planner believes: when none was unsent at the last
# ANALYZE, it would go through all unsent ones for each. So that is asked in no words of their index
# nor of the key's, and by itself (OFFSET).
_CLAIM = """
SELECT id, event_id, type, subject, event, next_attempt_at,
    extract(epoch FROM clock_timestamp() - created_at)::float AS age
FROM outbox
WHERE sent_at IS NULL AND next_attempt_at BETWEEN %s AND now()
AND id <> ALL (%s::bigint[]) AND NOT EXISTS (
    SELECT FROM outbox AS earlier
    WHERE earlier.subject = outbox.subject AND earlier.id + 0 < outbox.id
        AND coalesce(earlier.sent_at, 'infinity') = 'infinity'
    OFFSET 0
)
ORDER BY next_attempt_at, id LIMIT %s
"""
_MARK = """
UPDATE outbox SET sent_at = clock_timestamp(), unroutable_reason = NULL WHERE id = ANY (%s)
"""
_POSTPONE = """
UPDATE outbox
SET next_attempt_at = clock_timestamp() + %s * interval '1 second', unroutable_reason = %s
WHERE id = ANY (%s)
"""


class Unsent:
    """The unsent events, over a connection of its own; it must be held before it is asked."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._doorbell = Doorbell(outbox.name, look=DUE)
        self._since: datetime | str = _FROM_THE_FIRST
        #: Statements that go with the next one, and their parameters.
        self._first: list[tuple[str, Sequence[object]]] = []

    @classmethod
    @contextmanager
    def of(cls, sessions: Sessions) -> "Iterator[Unsent]":
        """Connect for the block; what is still to be written is written at its end."""
        with sessions.kw["bind"].connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            unsent = cls(connection)
            try:
                with unsent._doorbell.heard(connection):
                    yield unsent
            finally:
                if not connection.invalidated:
                    # Marks are committed first: who gets the lock next must see them.
                    unsent.write()
                    unsent._run(_UNLOCK)

    def hold(self) -> bool:
        """Keep all other relays away until the block ends; False if another one does so."""
        return bool(self._run(_LOCK).scalar())

    def claim(self, limit: int, *, but: Rows = ()) -> Rows:
        """Return what is due, the oldest first, and of each order the first event only.

        What is on its way is left out by `but`, and so are later events of the same orders.
        """
        rows = self._run(_CLAIM, self._since, [row.id for row in but], limit).all()
        if rows:
            self._since = rows[0].next_attempt_at - _BACK
        return rows

    def mark_sent(self, ids: Iterable[int]) -> None:
        """Let these events be sent, from the next statement on."""
        self._first.append((_MARK, [list(ids)]))

    def postpone(self, ids: Iterable[int], seconds: float, reason: str | None) -> None:
        """Let these events be due later, and tell why; from the next statement on."""
        self._first.append((_POSTPONE, [seconds, reason, list(ids)]))

    def sleep(self, seconds: float) -> None:
        """Return when an event is recorded or due, and after so many seconds at the latest."""
        # By itself: what waits for the doorbell's lock may be undone.
        self.write()
        if self._doorbell.sleep(self._connection, seconds, self._since):
            self._first.append((self._doorbell.rise, []))

    def write(self) -> None:
        """Write now what would go with the next statement."""
        if self._first:
            self._run("SELECT")

    def _run(self, statement: str, *parameters: object) -> CursorResult[Any]:
        statements, self._first = [*self._first, (statement, parameters)], []
        return self._connection.exec_driver_sql(
            ";".join(text for text, _ in statements),
            tuple(value for _, values in statements for value in values),
        )
