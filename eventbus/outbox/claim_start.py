"""Where a relay's looks at the outbox begin."""

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

#: Ids before the first event of a claim, from which on the next one looks. What was sent stays in
#: the index until a vacuum, and each look passes over it: after a backlog, or among millions of
#: rows, that takes more than all the rest. An event that is older than that, as its transaction
#: lasted long, is found by the next look from the first row.
_BACK = 2_000

#: Seconds between two looks from the first row, at least; and the share of the time that they take.
_LOOK_INTERVAL = 1.0
_LOOK_SHARE = 0.02


class Start:
    """Where a relay's looks begin: at the first row now and then, else near the last find."""

    def __init__(self) -> None:
        self._near = 0
        self._from_first = True
        self._next = 0.0

    @property
    def id(self) -> int:
        """The first id of the next look."""
        return 0 if self._from_first else self._near

    def is_due(self) -> bool:
        """Tell whether it is time to look from the first row."""
        return time.monotonic() >= self._next

    def reset(self) -> None:
        """Look from the first row next: it is time, or the database may be another one."""
        self._from_first = True

    def found(self, rows: Sequence[Row[Any]], began: float) -> None:
        """Note what a look that began then has found."""
        if self._from_first:
            now = time.monotonic()
            self._next = now + max(_LOOK_INTERVAL, (now - began) / _LOOK_SHARE)
            self._from_first = False
        if rows:
            self._near = max(0, rows[0].id - _BACK)

    def back(self, row_id: int) -> None:
        """Let the next look find this row."""
        self._near = min(self._near, row_id)
