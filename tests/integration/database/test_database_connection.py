"""A transaction starts with its first statement, and otherwise behaves as usual."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from eventbus.database import db
from eventbus.database.connection import Cursor, NotCommitted
from testkit.servers.databases import TestDatabase


@pytest.fixture
def engine(database_of: Callable[[str], TestDatabase]) -> Iterator[Engine]:
    """An engine like that of a process, on a database with an empty table `notes`."""
    engine = db.engine(database_of("order").service_settings, pool_size=2)
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE notes (n integer PRIMARY KEY)"))
    yield engine
    engine.dispose()


def notes(connection: Connection) -> list[int]:
    return list(connection.scalars(text("SELECT n FROM notes ORDER BY n")))


def insert(connection: Connection) -> None:
    connection.execute(text("INSERT INTO notes VALUES (1)"))


def insert_many(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver
    driver.cursor().executemany("INSERT INTO notes VALUES (%s)", [(1,), (2,)])


def copy(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver
    driver.cursor().copy_expert("COPY notes FROM STDIN", StringIO("1\n2\n"))


def insert_bytes(connection: Connection) -> None:
    driver = connection.connection.driver_connection
    assert driver
    driver.cursor().execute(b"INSERT INTO notes VALUES (1)")


@pytest.mark.parametrize("write", [insert, insert_many, insert_bytes, copy])
def test_a_rolled_back_write_has_no_effect(
    engine: Engine, write: Callable[[Connection], None]
) -> None:
    with engine.connect() as connection:
        with connection.begin() as transaction:
            write(connection)
            transaction.rollback()
        assert notes(connection) == []
        connection.rollback()

        with connection.begin():
            write(connection)
        assert notes(connection)


def test_begin_is_sent_with_the_first_statement(engine: Engine) -> None:
    with engine.connect() as connection, engine.connect() as observer:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))

        # The last query of the first connection, whose transaction is idle.
        activity = observer.execute(
            text("SELECT state, query FROM pg_stat_activity WHERE pid = :pid"), {"pid": pid}
        ).one()

    assert activity == ("idle in transaction", "BEGIN; SELECT pg_backend_pid()")


def test_a_transaction_without_statements_sends_nothing(engine: Engine) -> None:
    with engine.connect() as connection, engine.connect() as observer:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.commit()
        with connection.begin():
            pass
        query = text("SELECT query FROM pg_stat_activity WHERE pid = :pid")

        assert observer.scalar(query, {"pid": pid}) == "COMMIT"


def test_a_connection_is_usable_after_its_first_statement_failed(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(ProgrammingError), connection.begin():
            connection.execute(text("SELECT no_such_column"))

        with connection.begin():
            insert(connection)
        assert notes(connection) == [1]


def test_a_transaction_with_a_failed_statement_is_not_committed(engine: Engine) -> None:
    with engine.connect() as connection:
        # When the caller ignores the error of a statement, and commits
        with pytest.raises(NotCommitted), connection.begin():
            insert(connection)
            with suppress(ProgrammingError):
                connection.execute(text("SELECT no_such_column"))

        # Then the commit fails, and the connection is usable
        assert notes(connection) == []


def defer(connection: Connection, number: int) -> None:
    """Insert a note that is sent with the next statement."""
    with connection.connection.cursor() as cursor:
        assert isinstance(cursor, Cursor)
        cursor.execute_with_next("INSERT INTO notes VALUES (%s)", (number,))


def test_deferred_statements_are_sent_with_the_next_or_the_commit(engine: Engine) -> None:
    with engine.connect() as connection, engine.connect() as observer:
        with connection.begin():
            defer(connection, 1)
            assert notes(connection) == [1]
            defer(connection, 2)
            defer(connection, 3)
        last = text("SELECT query FROM pg_stat_activity WHERE query LIKE '%VALUES (3)%COMMIT'")
        sent = observer.scalars(last).all()
        assert notes(connection) == [1, 2, 3]

    assert sent == ["INSERT INTO notes VALUES (2); INSERT INTO notes VALUES (3); COMMIT"]


def test_a_transaction_of_one_deferred_statement_is_committed(engine: Engine) -> None:
    with engine.connect() as connection:
        with connection.begin():
            defer(connection, 1)

        assert notes(connection) == [1]


def test_a_deferred_statement_is_rolled_back_with_its_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        with connection.begin() as transaction:
            defer(connection, 1)
            transaction.rollback()

        with connection.begin():
            defer(connection, 2)
        assert notes(connection) == [2]


def test_a_deferred_statement_that_fails_aborts_the_commit(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(IntegrityError), connection.begin():
            insert(connection)
            defer(connection, 1)

        assert notes(connection) == []


def test_a_statement_is_not_deferred_in_autocommit(engine: Engine) -> None:
    with engine.connect() as connection:
        autocommitting = connection.execution_options(isolation_level="AUTOCOMMIT")
        defer(autocommitting, 1)
        autocommitting.rollback()

        assert notes(autocommitting) == [1]


def test_a_savepoint_is_rolled_back_alone(engine: Engine) -> None:
    with engine.connect() as connection:
        with connection.begin():
            with connection.begin_nested() as inner:
                insert(connection)
                inner.rollback()
            connection.execute(text("INSERT INTO notes VALUES (2)"))

        assert notes(connection) == [2]


def test_autocommit_starts_no_transaction(engine: Engine) -> None:
    with engine.connect() as connection:
        autocommitting = connection.execution_options(isolation_level="AUTOCOMMIT")
        insert(autocommitting)
        autocommitting.rollback()
        assert notes(autocommitting) == [1]

    # And a connection that the pool returns defer has transactions
    with engine.connect() as connection:
        with connection.begin() as transaction:
            connection.execute(text("INSERT INTO notes VALUES (2)"))
            transaction.rollback()
        assert notes(connection) == [1]
