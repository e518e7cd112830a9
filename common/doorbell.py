"""A doorbell: a process that waits for rows of a table sleeps until somebody inserts some.

Nobody rings while nobody sleeps: notifications make those who commit them wait for each other. An
insert holds the doorbell's lock, shared, until its transaction ends; who wants to sleep must get it
alone. So at that moment no insert is under way, and each later one finds the lock taken, and rings.
"""

import select
import time
from typing import Any

from common.db import Sessions

#: Seconds to sleep when somebody else has the lock, an insert that ends soon or another sleeper,
#: and when there is something to do that the caller could not do: it would come back at once.
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

    def __init__(self, sessions: Sessions, table: str, *, look: str) -> None:
        """`look` is a query: seconds until the first row is due, or null if none waits."""
        lock = f"(hashtext('doorbell'), hashtext('{table}'))"
        self._engine = sessions.kw["bind"]
        self._look = look
        self._lock = f"LISTEN {table}; SELECT pg_try_advisory_lock{lock}"
        # The pool takes a connection for dead that is told something while nobody uses it.
        self._unlock = f"UNLISTEN {table}; SELECT pg_advisory_unlock_all()"

    def sleep(self, seconds: float) -> None:
        """Return when a row is inserted or due, and after so many seconds at the latest."""
        with self._engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            driver: Any = connection.connection.driver_connection
            driver.notifies.clear()
            alone = connection.exec_driver_sql(self._lock).scalar()
            try:
                due = connection.exec_driver_sql(self._look).scalar()
                if alone and (due is None or due > 0):
                    _await_notification(driver, min(seconds, due or seconds))
                    return
            finally:
                connection.exec_driver_sql(self._unlock)
        time.sleep(min(_NAP, seconds))


def _await_notification(driver: Any, seconds: float) -> None:
    driver.poll()
    # It may have come with the last answer.
    if not driver.notifies:
        select.select([driver], [], [], seconds)
