"""Wake-ups: a process that waits for rows of a table sleeps until the first one is inserted."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from time import monotonic
from uuid import uuid4

import psycopg2.extensions
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.database.wakeup import Wakeup
from eventbus.messaging.in_flight import InFlight, Outgoing
from eventbus.outbox.relay import Relay
from notification_worker import mail_queue
from notification_worker.models import Notification
from testkit.eventually import eventually
from testkit.servers.databases import TestDatabase

NEXT_DUE = """
SELECT extract(epoch FROM min(next_attempt_at) - clock_timestamp())::float
FROM outbox WHERE sent_at IS NULL
"""

#: Seconds, more than any of these tests may take.
LONG = 60.0


class PublishCalled(Exception):
    """Raised when the relay publishes."""


class Refusing:
    """A publisher that only records that it was called."""

    def heartbeat(self) -> None:
        """Do nothing."""

    def ready(self, until: float) -> bool:
        return True

    def send(self, batch: Iterable[Outgoing], *, aside: bool = False) -> InFlight:
        raise PublishCalled(*(event.type for event in batch))


def insertion(due: str = "now()") -> str:
    return (
        "INSERT INTO outbox (event_id, type, subject, event, next_attempt_at)"
        f" VALUES ('{uuid4()}', 'order.created', '{uuid4()}', '{{}}', {due})"
    )


def insert(sessions: Sessions, *, due: str = "now()") -> None:
    with transaction(sessions) as session:
        session.connection().exec_driver_sql(insertion(due))


def forget(sessions: Sessions) -> None:
    with transaction(sessions) as session:
        session.execute(text("DELETE FROM outbox"))


@contextmanager
def asleep(sessions: Sessions, action: Callable[[], object]) -> Iterator["Future[object]"]:
    """Run an action in a thread, and start the block when it sleeps."""

    def sleeps() -> None:
        locks = """
            SELECT FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
            WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND datname = current_database()
        """
        with transaction(sessions) as session:
            assert session.execute(text(locks)).all()

    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(action)
        eventually(sleeps)
        yield done


@pytest.mark.parametrize("service", ["order", "inventory"])
def test_an_insert_wakes_a_sleeping_process(
    service: str, database_of: Callable[[str], TestDatabase]
) -> None:
    # Given a wake-up
    engine = db.engine(database_of(service).service_settings, pool_size=2)
    sessions = db.sessions(engine)
    wakeup = Wakeup("outbox", next_due=NEXT_DUE)

    # When a row is inserted during the sleep
    with asleep(sessions, lambda: wakeup.wait(sessions, LONG)) as sleep:
        insert(sessions)

        # Then the sleep ends
        sleep.result(timeout=LONG / 2)
    engine.dispose()


def test_a_mail_wakes_the_mailer(notification_database: Sessions) -> None:
    # Given a wake-up of the mailer
    wakeup = Wakeup("notifications", next_due=mail_queue.NEXT_DUE)

    # When an email is inserted during the sleep
    with asleep(
        notification_database, lambda: wakeup.wait(notification_database, LONG, 0, "epoch")
    ) as sleep:
        with transaction(notification_database) as session:
            mail = {"order_id": uuid4(), "kind": "received", "sequence": 1}
            session.add(Notification(**mail, recipient="ann@example.com", context={}))

        # Then the sleep ends
        sleep.result(timeout=LONG / 2)


def test_a_row_that_falls_due_wakes_a_sleeping_process(order_database: Sessions) -> None:
    # Given a row that is due in two seconds
    wakeup = Wakeup("outbox", next_due=NEXT_DUE)
    insert(order_database, due="now() + interval '2 seconds'")

    # When the process sleeps
    with asleep(order_database, lambda: wakeup.wait(order_database, LONG)) as sleep:
        # Then the sleep ends
        sleep.result(timeout=LONG / 2)


def test_a_process_does_not_sleep_during_an_insert(order_database: Sessions) -> None:
    # Given a wake-up
    wakeup = Wakeup("outbox", next_due=NEXT_DUE)
    started = monotonic()

    # When a row is inserted but not committed, and so not visible
    with transaction(order_database) as session:
        session.connection().exec_driver_sql(insertion())
        wakeup.wait(order_database, LONG)

    # Then the process does not sleep
    assert monotonic() - started < LONG / 2


def test_a_second_sleep_waits_for_a_new_insert(order_database: Sessions) -> None:
    # Given a wake-up that has ended a sleep before
    wakeup = Wakeup("outbox", next_due=NEXT_DUE)
    with asleep(order_database, lambda: wakeup.wait(order_database, LONG)) as sleep:
        insert(order_database)
        sleep.result(timeout=LONG / 2)
    forget(order_database)

    # When the process sleeps again
    with asleep(order_database, lambda: wakeup.wait(order_database, LONG)) as sleep:
        asleep_still = not sleep.done()
        insert(order_database)
        sleep.result(timeout=LONG / 2)

    # Then the sleep lasts until the next insert
    assert asleep_still


def test_an_insert_sends_no_notification_without_a_sleeper(order_database: Sessions) -> None:
    # Given a listener, and no sleeping process
    with engine_of(order_database).connect() as listener:
        listener.execution_options(isolation_level="AUTOCOMMIT").execute(text("LISTEN outbox"))

        # When a row is inserted
        insert(order_database)

        # Then a notification would have arrived with this reply
        listener.execute(text("SELECT 1"))
        driver = listener.connection.driver_connection
        assert isinstance(driver, psycopg2.extensions.connection)
        assert driver.notifies == []
        listener.execute(text("UNLISTEN *"))


def test_a_sleeping_relay_publishes_a_new_event_at_once(order_database: Sessions) -> None:
    # Given a relay whose drain lasts longer than this test may
    relay = Relay(order_database, Refusing())

    # When an event is recorded
    with asleep(order_database, lambda: relay.drain(monotonic() + LONG)) as drain:
        insert(order_database)

        # Then the relay publishes it
        with pytest.raises(PublishCalled):
            drain.result(timeout=LONG / 2)


def test_a_failed_check_for_due_rows_releases_the_lock(order_database: Sessions) -> None:
    # Given a check for due rows that the database cancels after the lock was acquired
    failing = Wakeup("outbox", next_due="SELECT 1.0 / 0")
    with pytest.raises(DBAPIError):
        failing.wait(order_database, LONG)

    # When another process sleeps
    with asleep(
        order_database, lambda: Wakeup("outbox", next_due=NEXT_DUE).wait(order_database, LONG)
    ) as sleep:
        insert(order_database)

        # Then an insert wakes it
        sleep.result(timeout=LONG / 2)

    # And no connection holds the lock
    assert not_released(order_database) == 0


def test_a_table_that_is_locked_leaves_no_lock_behind(order_database: Sessions) -> None:
    # Given a table that a migration has locked
    with transaction(order_database) as session:
        session.execute(text("LOCK TABLE outbox"))

        # When a process cannot sleep, because it cannot read the table
        Wakeup("outbox", next_due=NEXT_DUE).wait(order_database, LONG)

    # Then no connection holds the lock: each insert would send a notification
    assert not_released(order_database) == 0


def not_released(sessions: Sessions) -> int:
    """Return the number of advisory locks in the database."""
    held = text(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with transaction(sessions) as session:
        return int(session.scalar(held) or 0)
