"""The unsent events of an outbox, as the one relay sees them that may take them.

Each statement commits by itself: nothing here needs two, and each round trip delays every event
behind it. What need not be answered goes with the next statement.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult, Row

from eventbus.database.db import Sessions
from eventbus.database.statement import Statement
from eventbus.database.wakeup import Wakeup
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.outbox import lanes
from eventbus.outbox.claim_start import Start
from eventbus.outbox.lanes import Lanes
from eventbus.outbox.table import outbox

Rows = Sequence[Row[tuple[Any, ...]]]

NO_LANES = Lanes()

#: 0 if an event waits for its turn, else null; a look at one entry of an index.
DUE = Statement(
    "due_in_outbox",
    """
    SELECT 0.0 FROM outbox WHERE sent_at IS NULL AND waits_for IS NULL AND id >= $1
    ORDER BY waits_for, id LIMIT 1
    """,
    "bigint",
)

#: Characters of a reason that are kept.
_REASON_LIMIT = 500

# One relay at a time: its connection keeps the lock, and the connection's end is the lock's, too.
_LOCK = "SELECT pg_try_advisory_lock(hashtext('outbox'))"
_UNLOCK = "SELECT pg_advisory_unlock_all()"

# An event waits for the earlier ones of its order: they may be unroutable, or refused. Each is
# looked up among its order's few, whatever the planner believes: when none was unsent at the last
# ANALYZE, it would go through all unsent ones for each. So that is asked in no words of their index
# nor of the key's, and by itself (OFFSET). They count as read, so that a claim reads its limit of
# rows at most. No clock has a say: an event that never failed is due.
CLAIM = Statement(
    "claim_in_outbox",
    """
    SELECT id, event_id, type, subject, attempts,
        CASE WHEN octet_length(event) <= $1 THEN event END AS event,
        extract(epoch FROM clock_timestamp() - created_at)::float AS age,
        EXISTS (
            SELECT FROM outbox AS earlier
            WHERE earlier.subject = outbox.subject AND earlier.id + 0 < outbox.id
                AND coalesce(earlier.sent_at, 'infinity') = 'infinity'
            OFFSET 0
        ) AS is_behind
    FROM outbox
    WHERE sent_at IS NULL AND waits_for IS NULL AND id >= $2 AND id <> ALL ($3)
    ORDER BY waits_for, id LIMIT $4
    """,
    "int",
    "bigint",
    "bigint[]",
    "int",
)
_CLAIM_LANE = """
SELECT id, event_id, type, subject, attempts,
    CASE WHEN octet_length(event) <= %s THEN event END AS event,
    extract(epoch FROM clock_timestamp() - created_at)::float AS age
FROM outbox WHERE sent_at IS NULL AND waits_for = %s ORDER BY waits_for, id LIMIT %s
"""

#: A time that is further ahead than any delay was written by another clock.
_LOOK_FOR_DUE = """
SELECT id, next_attempt_at NOT BETWEEN now() AND now() + %s * interval '1 second' AS is_due
FROM outbox
WHERE sent_at IS NULL AND waits_for = %s AND id > %s ORDER BY waits_for, id LIMIT %s
"""
_CLAIM_ONE = """
SELECT id, event_id, type, subject, attempts,
    CASE WHEN octet_length(event) <= %s THEN event END AS event,
    extract(epoch FROM clock_timestamp() - created_at)::float AS age
FROM outbox WHERE sent_at IS NULL AND id = %s
"""

# From each lane to the next one: as many looks as there are lanes.
_LANES = """
WITH RECURSIVE lane AS (
    (
        SELECT waits_for, next_attempt_at FROM outbox
        WHERE sent_at IS NULL AND waits_for IS NOT NULL ORDER BY waits_for, id LIMIT 1
    )
    UNION ALL
    SELECT following.* FROM lane CROSS JOIN LATERAL (
        SELECT waits_for, next_attempt_at FROM outbox
        WHERE sent_at IS NULL AND outbox.waits_for > lane.waits_for ORDER BY waits_for, id LIMIT 1
    ) AS following
)
SELECT waits_for, CASE
    WHEN next_attempt_at NOT BETWEEN now() AND now() + %s * interval '1 second' THEN 0
    ELSE extract(epoch FROM next_attempt_at - clock_timestamp())
END::float AS seconds
FROM lane
"""

_MARK = Statement(
    "mark_in_outbox",
    """
    UPDATE outbox SET sent_at = clock_timestamp(), unroutable_reason = NULL, waits_for = NULL
    WHERE id = ANY ($1)
    """,
    "bigint[]",
)
_RELEASE = """
UPDATE outbox SET waits_for = NULL WHERE subject = ANY (%s::uuid[])
    AND coalesce(sent_at, 'infinity') = 'infinity' AND waits_for = %s
"""
_HOLD = """
UPDATE outbox SET waits_for = type, next_attempt_at = clock_timestamp() WHERE id = ANY (%s)
"""
_HOLD_BEHIND = """
UPDATE outbox SET waits_for = %s WHERE id = ANY (%s) AND EXISTS (
    SELECT FROM outbox AS earlier
    WHERE earlier.subject = outbox.subject AND earlier.id + 0 < outbox.id
        AND coalesce(earlier.sent_at, 'infinity') = 'infinity' AND earlier.waits_for IS NOT NULL
    OFFSET 0
)
"""
_POSTPONE = """
UPDATE outbox
SET waits_for = %s, unroutable_reason = %s, attempts = least(attempts + 1, 30000),
    next_attempt_at = clock_timestamp() + interval '1 second' * (0.5 + random() / 2)
        * least(%s, %s * 2.0 ^ least(attempts, 16))
WHERE id = ANY (%s)
"""


#: Each with the values of its parameters.
Statements = list[tuple[str | Statement, Sequence[object]]]


class Claim(NamedTuple):
    """What a look found: the events to send, and how many rows it read for them."""

    rows: Rows
    read: int
    #: The types of the events that were put into their lanes.
    held: frozenset[str]


class Unsent:
    """The unsent events, over a connection of its own; it must be held before it is asked."""

    def __init__(self, connection: Connection, start: Start) -> None:
        self._connection = connection
        self._wakeup = Wakeup(outbox.name, next_due=DUE)
        self._start = start
        #: Statements that go with the next one, and their parameters.
        self._first: Statements = []

    @classmethod
    @contextmanager
    def of(cls, sessions: Sessions, start: Start | None = None) -> "Iterator[Unsent]":
        """Connect for the block; what is still to be written is written at its end."""
        with sessions.kw["bind"].connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            unsent = cls(connection, start or Start())
            try:
                with unsent._wakeup.listening(connection):
                    yield unsent
            finally:
                if not connection.invalidated:
                    # Marks are committed first: who gets the lock next must see them.
                    unsent.write()
                    unsent._run(_UNLOCK)

    def hold(self) -> bool:
        """Keep all other relays away until the block ends; False if another one does so."""
        return bool(self._run(_LOCK).scalar())

    def claim(self, limit: int, *, but: Iterable[int] = (), aside: Lanes = NO_LANES) -> Claim:
        """Read so many events that have never failed, the oldest first; return those to send.

        Events with these ids, which are on their way, are left out. Events of the types in `aside`
        are put into those lanes. Of each order the first event only is returned; later ones are put
        aside if it is in a lane.
        """
        began = time.monotonic()
        rows = self._run(CLAIM, LARGEST_EVENT, self._start.id, list(but), limit).all()
        self._start.found(rows, began)
        free = [row for row in rows if not row.is_behind]
        held = [row for row in free if row.type in aside] if aside else []
        if held:
            self._first.append((_HOLD, [[row.id for row in held]]))
            free = [row for row in free if row.type not in aside]
        if aside and (behind := [row.id for row in rows if row.is_behind]):
            self._first.append((_HOLD_BEHIND, [lanes.BEHIND, behind]))
        return Claim(free, len(rows), frozenset(row.type for row in held))

    def lanes(self) -> dict[str, float]:
        """Return each lane that has events, and the seconds until its first one is due.

        Only when it is time to look from the first row, where the next claim begins as well.
        """
        if not self._start.is_due():
            return {}
        self._start.reset()
        found = self._run(_LANES, lanes.LONGEST_DELAY).all()
        return {row.waits_for: row.seconds for row in found if row.waits_for != lanes.BEHIND}

    def claim_lane(self, lane: str, limit: int) -> Rows:
        """Return so many events of a lane, the oldest first."""
        return self._run(_CLAIM_LANE, LARGEST_EVENT, lane, limit).all()

    def look_for_due(self, lane: str, after: int, limit: int) -> Rows:
        """Return id and `is_due` of so many events of a lane, from the one after this id on."""
        return self._run(_LOOK_FOR_DUE, lanes.LONGEST_DELAY, lane, after, limit).all()

    def claim_one(self, row_id: int) -> Rows:
        """Return this event, unless it was sent."""
        return self._run(_CLAIM_ONE, LARGEST_EVENT, row_id).all()

    def mark_sent(self, rows: Rows) -> None:
        """Let these events be sent, from the next statement on."""
        self._first.append((_MARK, [[row.id for row in rows]]))

    def release(self, rows: Rows) -> None:
        """Let the later events of these events' orders go, from the next statement on."""
        self._first.append((_RELEASE, [[str(row.subject) for row in rows], lanes.BEHIND]))
        self._start.back(min(row.id for row in rows))

    def postpone(self, rows: Rows, lane: str, reason: str | None) -> None:
        """Put these events, which failed, into a lane, and tell why; from the next statement on."""
        text = reason and reason.replace("\0", "")[:_REASON_LIMIT]
        delays = lanes.LONGEST_DELAY, lanes.FIRST_DELAY
        self._first.append((_POSTPONE, [lane, text, *delays, [row.id for row in rows]]))

    def sleep(self, seconds: float, *, naps: bool = True) -> None:
        """Return when an event is recorded, and after so many seconds at the latest.

        `naps` says that a claim has just found nothing that can be sent.
        """
        first, self._first = self._first, []
        start, words = self._start.id, self._joined(first)
        if self._wakeup.sleep(self._connection, seconds, start, first=words, naps=naps):
            self._first.append((self._wakeup.unlock, []))
        else:
            # An insert is under way: what was written is undone.
            self._first = first

    def write(self) -> None:
        """Write now what would go with the next statement."""
        if self._first:
            self._run("SELECT")

    def _run(self, statement: str | Statement, *parameters: object) -> CursorResult[Any]:
        statements, self._first = [*self._first, (statement, parameters)], []
        return self._connection.exec_driver_sql(*self._joined(statements))

    def _joined(self, statements: Statements) -> tuple[str, tuple[object, ...]]:
        text = "".join(f"{self._text(each)};" for each, _ in statements)
        return text, tuple(value for _, values in statements for value in values)

    def _text(self, statement: str | Statement) -> str:
        return statement if isinstance(statement, str) else statement.prepared(self._connection)
