"""The id at which a relay's next query of the outbox starts."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

#: Number of ids before the first event of a claim at which the next query starts. Sent events stay
#: in the index until a vacuum, and each query scans past them. After a backlog, or among millions
#: of rows, this scan takes longer than all other work. An event with a lower id, from a long
#: transaction, is found by the next query from the first row.
_BACK = 2_000

#: Minimum number of seconds between two queries from the first row, and the maximum share of time
#: that these queries take.
_LOOK_INTERVAL = 1.0
_LOOK_SHARE = 0.02


class Start:
    """The start of each query: near the last event found or, at intervals, the first row."""

    def __init__(self) -> None:
        self._near = 0
        self._from_first = True
        self._next = 0.0

    @property
    def id(self) -> int:
        """The first id of the next query."""
        return 0 if self._from_first else self._near

    def is_due(self) -> bool:
        """Return whether a query from the first row is due."""
        return time.monotonic() >= self._next

    def reset(self) -> None:
        """Start the next query at the first row.

        Call this when such a query is due, or when the database may be a different one.
        """
        self._from_first = True

    def found(self, rows: Sequence[Row[Any]], began: float) -> None:
        """Record the rows that were found by a query that started at `began`."""
        if self._from_first:
            now = time.monotonic()
            self._next = now + max(_LOOK_INTERVAL, (now - began) / _LOOK_SHARE)
            self._from_first = False
        if rows:
            self._near = max(0, rows[0].id - _BACK)

    def back(self, row_id: int) -> None:
        """Include this row in the next query."""
        self._near = min(self._near, row_id)
