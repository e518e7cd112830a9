"""A meter: what a piece of code lets a database read, as PostgreSQL itself counts it."""

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
    """Counts what this process lets a database read: pages, rows and index entries, by table."""

    engine: Engine
    #: Backends that were there before, whose counts do not change.
    others: frozenset[int]
    #: The connections of this process.
    connections: list[PgConnection] = field(default_factory=list)

    @classmethod
    @contextmanager
    def over(cls, engine: Engine) -> "Iterator[Meter]":
        """Know every connection to the engine's database that is opened in the block."""
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
        """Return what a step, and every thread that it starts, reads of each table."""
        before, threads = self._read(), _workers()
        step()
        eventually(lambda: _require(_workers() <= threads))
        return self._read() - before

    def _read(self) -> Counter[str]:
        for each in self.connections:
            if not each.closed:
                with each.cursor() as cursor:
                    # Else a backend tells within the next seconds.
                    cursor.execute("SELECT pg_stat_force_next_flush()")
                each.rollback()
        eventually(self._require_all_told)
        with self.engine.connect() as connection:
            return Counter({table: int(n) for table, n in connection.execute(text(_COUNTED))})

    def _require_all_told(self) -> None:
        # One that ends tells when it does.
        open_ones = {each.info.backend_pid for each in self.connections if not each.closed}
        with self.engine.connect() as connection:
            _require({*connection.scalars(text(_OTHERS))} <= open_ones | self.others)


def _workers() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.daemon}


def _require(claim: bool) -> None:
    assert claim
