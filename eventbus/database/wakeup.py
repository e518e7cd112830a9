"""A doorbell: a process that waits for rows of a table sleeps until somebody inserts some.

Nobody rings while nobody sleeps: notifications make those who commit them wait for each other. An
insert holds the doorbell's lock, shared, until its transaction ends; who wants to sleep must get it
alone. So at that moment no insert is under way, and each later one finds the lock taken, and rings.
"""

import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from eventbus.database.db import Sessions
from eventbus.database.statement import Statement

#: Seconds to sleep when there is something to do that the caller could not do: it would come back
#: at once. And to wait for the lock, which an insert holds that ends soon, or another sleeper.
_NAP = 0.025

#: What a migration adds to a table that has a doorbell. Migrations of the past run it: it may not
#: change.
DEFINITION = """
CREATE FUNCTION ring_doorbell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock_shared(hashtext('doorbell'), hashtext(TG_TABLE_NAME)) THEN
        PERFORM pg_notify(TG_TABLE_NAME, '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER ring_doorbell BEFORE INSERT ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION ring_doorbell()
"""


class Doorbell:
    """Wakes whoever sleeps on it when a row is inserted into its table."""

    def __init__(self, table: str, *, look: Statement | str) -> None:
        """`look` is a query: seconds until the first row is due, or null if none waits.

        The values of its parameters are those of `sleep`.
        """
        key = f"hashtext('doorbell'), hashtext('{table}')"
        self._listen, self._unlisten = f"LISTEN {table}", f"UNLISTEN {table}"
        self._look = look
        self._lock = (
            f"SET LOCAL lock_timeout = {int(_NAP * 1000)}; SELECT pg_advisory_lock({key}); "
        )
        #: What a connection that has slept must run before an insert may be silent again.
        self.rise = f"SELECT pg_advisory_unlock({key})"

    @contextmanager
    def heard(self, connection: Connection) -> Iterator[None]:
        """Let a connection, whose every statement commits by itself, hear the bell in the block."""
        connection.exec_driver_sql(self._listen)
        try:
            yield
        finally:
            if not connection.invalidated:
                # The pool takes a connection for dead that is told something while nobody uses it.
                connection.exec_driver_sql(self._unlisten)

    def sleep(
        self,
        connection: Connection,
        seconds: float,
        *values: object,
        first: tuple[str, Sequence[object]] = ("", ()),
        naps: bool = True,
    ) -> bool:
        """Return when a row is inserted or due, and after so many seconds at the latest.

        The connection must hear the bell. `first` are statements that go before, in one round trip,
        and the values of their parameters. Returns whether it has slept: its next statement is
        `rise`, then. If not, `first` has done nothing. When a row is due already it takes a nap,
        unless the caller has not looked for it before.
        """
        driver: Any = connection.connection.driver_connection
        driver.notifies.clear()
        try:
            look = self._look if isinstance(self._look, str) else self._look.prepared(connection)
            text, parameters = first[0] + self._lock + look, (*first[1], *values)
            due = connection.exec_driver_sql(text, parameters).scalar()
        except OperationalError as error:
            if not isinstance(error.orig, LockNotAvailable):
                raise
            return False
        if due is None or due > 0:
            _await_notification(driver, min(seconds, due or seconds))
        elif naps:
            time.sleep(min(_NAP, seconds))
        return True

    def wait(self, sessions: Sessions, seconds: float, *values: object) -> None:
        """Do what `sleep` does, over a connection of the pool."""
        with sessions.kw["bind"].connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            with self.heard(connection):
                if self.sleep(connection, seconds, *values):
                    connection.exec_driver_sql(self.rise)


def _await_notification(driver: Any, seconds: float) -> None:
    driver.poll()
    # It may have come with the last answer.
    if not driver.notifies:
        select.select([driver], [], [], seconds)
