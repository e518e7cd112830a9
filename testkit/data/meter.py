"""A meter of the reads that a piece of code causes in a database, by PostgreSQL's statistics."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from psycopg2.extensions import connection as PgConnection  # noqa: N812, a class
from sqlalchemy import Engine, text
from sqlalchemy.event import listen, remove
from sqlalchemy.pool import Pool

from testkit.eventually import eventually

_COUNTED = """
SELECT relname, coalesce(seq_tup_read, 0)
    + heap_blks_read + heap_blks_hit
    + coalesce(idx_blks_read + idx_blks_hit, 0)
    + coalesce(toast_blks_read + toast_blks_hit + tidx_blks_read + tidx_blks_hit, 0)
    + coalesce((SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relid = t.relid), 0)
FROM pg_stat_user_tables AS t JOIN pg_statio_user_tables USING (relid, relname)
"""
_OTHERS = """
SELECT pid FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid()
    AND backend_type IN ('client backend', 'parallel worker')
"""


@dataclass
class Meter:
    """The counts of the pages, rows and index entries that this process reads, by table."""

    engine: Engine
    #: Earlier backends, whose counts do not change.
    others: frozenset[int]
    #: The connections of this process.
    connections: list[PgConnection] = field(default_factory=list)

    @classmethod
    @contextmanager
    def over(cls, engine: Engine) -> "Iterator[Meter]":
        """Record every connection to the engine's database that is opened in the block."""
        with engine.connect() as connection:
            meter = cls(engine, frozenset(connection.scalars(text(_OTHERS))))

        def remember(connection: PgConnection, _: object) -> None:
            if connection.info.dbname == engine.url.database:
                meter.connections.append(connection)

        listen(Pool, "connect", remember)
        try:
            yield meter
        finally:
            remove(Pool, "connect", remember)

    def cost(self, step: Callable[[], object]) -> Counter[str]:
        """Return the reads of a step, and of every thread that it starts, by table."""
        before, threads = self._read(), _workers()
        step()
        eventually(lambda: _require(_workers() <= threads))
        return self._read() - before

    def _read(self) -> Counter[str]:
        for connection in self.connections:
            if not connection.closed:
                with connection.cursor() as cursor:
                    # Without this call, a backend reports its counts only after seconds.
                    cursor.execute("SELECT pg_stat_force_next_flush()")
                connection.rollback()
        eventually(self._require_all_reported)
        with self.engine.connect() as connection:
            return Counter({table: int(n) for table, n in connection.execute(text(_COUNTED))})

    def _require_all_reported(self) -> None:
        # A backend that exits reports its counts at its exit.
        open_backends = {c.info.backend_pid for c in self.connections if not c.closed}
        with self.engine.connect() as connection:
            _require({*connection.scalars(text(_OTHERS))} <= open_backends | self.others)


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.daemon}


def _require(claim: bool) -> None:
    assert claim
