"""A thread that waits for a connection does not depend on the failures of other threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import psycopg2
import pytest
from sqlalchemy.exc import TimeoutError as PoolTimeout

from eventbus.database.pool import EnginePool
from testkit.servers.databases import TestDatabase


class Server:
    """A server whose first connection fails, once `fails` is set."""

    def __init__(self, database: TestDatabase) -> None:
        self._dsn = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.attempted, self.fails = Event(), Event()

    def connect(self) -> Any:
        """Open a connection."""
        if not self.attempted.is_set():
            self.attempted.set()
            assert self.fails.wait(60)
            raise psycopg2.OperationalError("the server does not respond")
        return psycopg2.connect(self._dsn)


def test_a_waiting_thread_connects_after_another_thread_has_failed(
    api_database: TestDatabase,
) -> None:
    # Given a pool of one connection, which a thread is opening, and a second thread that waits
    server = Server(api_database)
    pool = EnginePool(server.connect, pool_size=1, max_overflow=0, timeout=100)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(pool.connect)
        assert server.attempted.wait(60)
        second = threads.submit(pool.connect)

        # When the first thread fails
        server.fails.set()
        with pytest.raises(psycopg2.OperationalError):
            first.result(60)

        # Then the second opens a connection, long before its timeout
        second.result(50).close()
    pool.dispose()


def test_a_thread_waits_no_longer_than_its_timeout(api_database: TestDatabase) -> None:
    # Given a pool whose only connection is in use, also after it was recreated
    server = Server(api_database)
    server.attempted.set()
    pool = EnginePool(server.connect, pool_size=1, max_overflow=0, timeout=0.5).recreate()
    used = pool.connect()

    # When another thread waits for a connection, then it times out
    with pytest.raises(PoolTimeout, match=r"none of 1 connections was free for 0\.5 seconds"):
        pool.connect()
    used.close()
    pool.dispose()


def test_lost_races_do_not_extend_the_timeout(api_database: TestDatabase) -> None:
    # Given a pool in which another thread always takes the last permitted connection first
    class Contended(EnginePool):
        def _inc_overflow(self) -> bool:
            return False

    server = Server(api_database)
    pool = Contended(server.connect, pool_size=1, max_overflow=0, timeout=0.5)

    # When a thread waits for a connection, then it times out
    with pytest.raises(PoolTimeout):
        pool.connect()
