"""Claims on the unsent events of an outbox, or of some of its slots.

Each statement commits on its own, because no operation needs two statements, and each additional
round trip delays all later events. A statement whose result is not needed is sent together with the
next statement.
"""

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from sqlalchemy import Connection, CursorResult, Row

from eventbus.database.db import Sessions, engine_of
from eventbus.database.statement import Statement
from eventbus.database.wakeup import Wakeup
from eventbus.messaging.event_message import LARGEST_EVENT
from eventbus.outbox import lanes, queries, slots
from eventbus.outbox.claim_start import Start
from eventbus.outbox.lanes import Lanes
from eventbus.outbox.slots import SLOT, Part
from eventbus.outbox.table import outbox

Rows = Sequence[Row[tuple[Any, ...]]]

NO_LANES = Lanes()

#: Maximum length of a stored reason, in characters.
_REASON_LIMIT = 500

_UNLOCK = "SELECT pg_advisory_unlock_all()"

# If a time is further in the future than the longest delay, it was written by a different clock.
# The events of other relays are also read, but are never due.
_SCAN_FOR_DUE = f"""
SELECT id, {SLOT} = ANY (%s)
    AND next_attempt_at NOT BETWEEN now() AND now() + %s * interval '1 second' AS is_due
FROM outbox
WHERE sent_at IS NULL AND waits_for = %s AND id > %s ORDER BY waits_for, id LIMIT %s
"""  # noqa: S608, a constant of another module
_CLAIM_ONE = """
SELECT id, event_id, type, subject, attempts,
    CASE WHEN octet_length(event) <= %s THEN event END AS event,
    extract(epoch FROM clock_timestamp() - created_at)::float AS age
FROM outbox WHERE sent_at IS NULL AND id = %s
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
# Another relay, which did not have the lane open, may have sent the event for which these events
# wait.
_RELEASE_FREE = f"""
WITH examined AS MATERIALIZED (
    SELECT id FROM outbox
    WHERE sent_at IS NULL AND waits_for = %s AND id > %s ORDER BY waits_for, id LIMIT %s
), released AS (
    UPDATE outbox SET waits_for = NULL
    WHERE id = ANY (ARRAY(SELECT id FROM examined)) AND {SLOT} = ANY (%s) AND NOT EXISTS (
        SELECT FROM outbox AS earlier
        WHERE earlier.subject = outbox.subject AND earlier.id + 0 < outbox.id
            AND coalesce(earlier.sent_at, 'infinity') = 'infinity' AND earlier.waits_for <> %s
        OFFSET 0
    )
)
SELECT CASE WHEN count(*) = %s THEN max(id) ELSE 0 END FROM examined
"""  # noqa: S608, a constant of another module
_POSTPONE = """
UPDATE outbox
SET waits_for = %s, unroutable_reason = %s, attempts = least(attempts + 1, 30000),
    next_attempt_at = clock_timestamp() + interval '1 second' * (0.5 + random() / 2)
        * least(%s, %s * 2.0 ^ least(attempts, 16))
WHERE id = ANY (%s)
"""


#: Statements, each with its parameter values.
Statements = list[tuple[str | Statement, Sequence[object]]]


class Claim(NamedTuple):
    """The result of a claim: the events to send, and the number of rows read."""

    rows: Rows
    read: int
    #: The types of the events that were moved to their lanes.
    held: frozenset[str]


class Claims:
    """The unsent events, over a dedicated connection; `hold` must succeed before any claim."""

    def __init__(self, connection: Connection, start: Start, part: Part) -> None:
        self._connection = connection
        self._part = part
        self._queries = queries.WHOLE if part.is_whole else queries.OF_SLOTS
        due = self._queries.due
        self._wakeup = Wakeup(outbox.name, next_due=due, is_shared=not part.is_whole)
        self._start = start
        #: The slots from which other relays are excluded.
        self.slots: Sequence[int] = ()
        #: Statements to send together with the next statement.
        self._pending: Statements = []

    @classmethod
    @contextmanager
    def of(
        cls, sessions: Sessions, start: Start | None = None, part: Part = slots.WHOLE
    ) -> "Iterator[Claims]":
        """Connect for the block, and run pending statements at its end."""
        with engine_of(sessions).connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            claims = cls(connection, start or Start(), part)
            try:
                with claims._wakeup.listening(connection):
                    yield claims
            finally:
                if not connection.invalidated:
                    # The marks are committed before the unlock, so that the next holder of the lock
                    # sees them.
                    claims.write()
                    claims._run(_UNLOCK)

    def hold(self) -> bool:
        """Exclude other relays from this part until the block ends.

        Return False if other relays hold all slots of the part. Claims omit the slots that other
        relays hold.
        """
        self.slots = self._part.lock(self._connection)
        return bool(self.slots)

    def claim(self, limit: int, *, but: Iterable[int] = (), aside: Lanes = NO_LANES) -> Claim:
        """Read up to `limit` events that have never failed, oldest first; return those to send.

        Events whose id is in `but`, which are in flight, are omitted. Events whose type is in
        `aside` are moved to those lanes. Only the first event of each order is returned; if the
        first event is in a lane, the later events are put aside.
        """
        began = time.monotonic()
        values = LARGEST_EVENT, self._start.id, list(but), limit
        rows = self._run(self._queries.claim, *values, *self._of_slots(limit)).all()
        self._start.found(rows, began)
        if rows:
            self._wakeup.found()
        free = [row for row in rows if not row.is_behind]
        held = [row for row in free if row.type in aside] if aside else []
        if held:
            self._pending.append((_HOLD, [[row.id for row in held]]))
            free = [row for row in free if row.type not in aside]
        if aside and (behind := [row.id for row in rows if row.is_behind]):
            self._pending.append((_HOLD_BEHIND, [lanes.BEHIND, behind]))
        return Claim(free, len(rows), frozenset(row.type for row in held))

    def lanes(self) -> dict[str, float]:
        """Return each lane that has events, and the seconds until its first event is due.

        The result is empty unless a query from the first row is due; the next claim then also
        starts there.
        """
        if not self._start.is_due():
            return {}
        self._start.reset()
        rows = self._run(self._queries.lanes, lanes.LONGEST_DELAY, *self._of_slots()).all()
        return {row.waits_for: row.seconds for row in rows}

    def release_free(self, after: int, limit: int) -> int:
        """Release events of the lane `BEHIND` if no earlier event of the order is in another lane.

        Examine up to `limit` events with ids above `after`; return the last id, or 0 after the last
        event. The next claim must start at the first row.
        """
        values = lanes.BEHIND, after, limit, list(self.slots), lanes.BEHIND, limit
        return int(self._run(_RELEASE_FREE, *values).scalar_one())

    def claim_lane(self, lane: str, limit: int) -> Rows:
        """Return up to `limit` events of a lane, oldest first."""
        values = LARGEST_EVENT, lane, limit
        return self._run(self._queries.lane, *values, *self._of_slots(limit)).all()

    def find_due(self, lane: str, after: int, limit: int) -> Rows:
        """Return `id` and `is_due` of up to `limit` events of a lane with ids above `after`."""
        values = list(self.slots), lanes.LONGEST_DELAY, lane, after, limit
        return self._run(_SCAN_FOR_DUE, *values).all()

    def claim_one(self, row_id: int) -> Rows:
        """Return this event, unless it has been sent."""
        return self._run(_CLAIM_ONE, LARGEST_EVENT, row_id).all()

    def mark_sent(self, rows: Rows) -> None:
        """Mark these events as sent, together with the next statement."""
        self._pending.append((_MARK, [[row.id for row in rows]]))

    def release(self, rows: Rows) -> None:
        """Release the later events of these orders, together with the next statement."""
        self._pending.append((_RELEASE, [[str(row.subject) for row in rows], lanes.BEHIND]))
        self._start.back(min(row.id for row in rows))

    def postpone(self, rows: Rows, lane: str, reason: str | None) -> None:
        """Move these failed events to a lane with the reason, together with the next statement."""
        text = reason and reason.replace("\0", "")[:_REASON_LIMIT]
        delays = lanes.LONGEST_DELAY, lanes.FIRST_DELAY
        self._pending.append((_POSTPONE, [lane, text, *delays, [row.id for row in rows]]))

    def sleep(self, seconds: float, *, naps: bool = True) -> None:
        """Sleep until an event is inserted, for at most `seconds`.

        `naps` means that a claim has just found no event that can be sent.
        """
        if not self._part.is_whole:
            self.write()
        pending, self._pending = self._pending, []
        values, first = (self._start.id, *self._of_slots()), self._joined(pending)
        if self._wakeup.sleep(self._connection, seconds, *values, first=first, naps=naps):
            self._pending.append((self._wakeup.unlock, []))
        else:
            # An insert is in progress, and the statements had no effect.
            self._pending = pending

    def write(self) -> None:
        """Run the pending statements now."""
        if self._pending:
            self._run("SELECT")

    def _of_slots(self, limit: int | None = None) -> tuple[object, ...]:
        """Return the additional parameters of a query of slots: the slots, and each limit."""
        if self._part.is_whole:
            return ()
        own = list(self.slots)
        return (own,) if limit is None else (own, math.ceil(limit / len(own)))

    def _run(self, statement: str | Statement, *parameters: object) -> CursorResult[Any]:
        statements, self._pending = [*self._pending, (statement, parameters)], []
        return self._connection.exec_driver_sql(*self._joined(statements))

    def _joined(self, statements: Statements) -> tuple[str, tuple[object, ...]]:
        text = "".join(f"{self._text(statement)};" for statement, _ in statements)
        return text, tuple(value for _, values in statements for value in values)

    def _text(self, statement: str | Statement) -> str:
        return statement if isinstance(statement, str) else statement.prepared(self._connection)
