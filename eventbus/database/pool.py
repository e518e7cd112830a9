"""The connection pool of an engine, in which a failed connection does not delay other threads."""

import time
from typing import Any, Self, cast

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

#: Seconds between two attempts of a waiting thread.
_POLL = 0.2


class EnginePool(QueuePool):
    """A pool whose waiting threads open a connection when another thread has failed to.

    SQLAlchemy wakes a waiting thread only when a connection is returned. If the thread that was
    opening the last permitted connection fails, the others would wait until their timeout, although
    the pool has room again.
    """

    def __init__(self, creator: Any, *, timeout: float = 30.0, **options: Any) -> None:
        """Create the pool; a thread waits at most `timeout` seconds for a connection."""
        super().__init__(creator, timeout=min(_POLL, timeout), **options)
        self._patience = timeout

    def recreate(self) -> Self:
        """Return a new pool with the same options, for an engine that is disposed of."""
        new: Any = super().recreate()
        new._patience = self._patience
        return cast("Self", new)

    def _do_get(self) -> ConnectionPoolEntry:
        deadline = time.monotonic() + self._patience
        while True:
            try:
                return super()._do_get()
            except PoolTimeout:
                if time.monotonic() >= deadline:
                    raise PoolTimeout(
                        f"none of {self.size()} connections was free for {self._patience:g} seconds"
                    ) from None
