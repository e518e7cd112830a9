"""The connection pool of an engine, in which a failed connection does not delay other threads."""

import time
from contextlib import suppress

from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty

#: Seconds between two attempts of a waiting thread.
_POLL = 0.2


class EnginePool(QueuePool):
    """A pool whose waiting threads open a connection after another thread has failed to do so.

    SQLAlchemy wakes a waiting thread only when a connection is returned. If the thread that was
    opening the last permitted connection fails, all other threads would wait until their timeout,
    although the pool has room again.
    """

    def _do_get(self) -> ConnectionPoolEntry:
        # The base class's method starts again, with another timeout, whenever another thread takes
        # the last permitted connection first.
        deadline = time.monotonic() + self._timeout
        while True:
            left = deadline - time.monotonic()
            with suppress(Empty):
                return self._pool.get(self._is_full, max(0.0, min(_POLL, left)))
            if self._inc_overflow():
                try:
                    return self._create_connection()
                except BaseException:
                    self._dec_overflow()
                    raise
            if left <= 0:
                raise PoolTimeout(
                    f"none of {self.size()} connections was free for {self._timeout:g} seconds"
                )

    @property
    def _is_full(self) -> bool:
        return 0 <= self._max_overflow <= self._overflow
