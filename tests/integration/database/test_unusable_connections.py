"""A connection on which each further statement would fail is replaced, as after an outage."""

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from eventbus.database import db, outages
from eventbus.database.statement import Statement
from testkit.eventually import eventually
from testkit.servers.databases import TestDatabase

READ = Statement("read_note", "SELECT n FROM notes WHERE n = $1", "int")

OUTDATED = "a connection's prepared statements are outdated"


@pytest.fixture
def database(database_of: Callable[[str], TestDatabase]) -> TestDatabase:
    return database_of("order")


@pytest.fixture
def operator(database: TestDatabase) -> Iterator[Engine]:
    """The engine of an operator, who has created the table `notes`."""
    engine = db.engine(database.service_settings)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE notes AS SELECT 1 AS n"))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(database: TestDatabase, operator: Engine) -> Iterator[Engine]:
    """The engine of a process, whose only connection has prepared a statement."""
    del operator  # It must have created the table.
    engine = db.engine(database.service_settings)
    assert read(engine) == 1
    yield engine
    engine.dispose()


def read(engine: Engine) -> int:
    with engine.begin() as connection:
        return read_on(connection)


def read_on(connection: Connection) -> int:
    value: int = READ.run_on(connection, 1).scalar_one()
    return value


def execute(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_statements_are_prepared_again_after_a_table_was_altered(
    engine: Engine, operator: Engine
) -> None:
    # When a migration changes the type of a column that a prepared statement returns
    execute(operator, "ALTER TABLE notes ALTER n TYPE bigint")

    # Then the next use fails as in an outage, and the one after it does not
    with pytest.raises(DBAPIError) as caught:
        read(engine)
    assert outages.reason(caught.value) == OUTDATED
    assert read(engine) == 1


@pytest.mark.parametrize(
    "change",
    [
        "DEALLOCATE ALL",
        # As after an interrupt between the server's response and its evaluation.
        "PREPARE other_note (int) AS SELECT 1",
    ],
    ids=["missing", "unexpected"],
)
def test_statements_that_the_server_does_not_know_are_prepared_again(
    engine: Engine, change: str
) -> None:
    # Given a server whose prepared statements differ from those that the process remembers
    execute(engine, change)
    other = Statement("other_note", "SELECT 1", "int")

    def use() -> None:
        with engine.begin() as connection:
            read_on(connection)
            other.run_on(connection, 1)

    # When they are used, then the failure is an outage, after which the connection is another one
    with pytest.raises(DBAPIError) as caught:
        use()
    assert outages.reason(caught.value) == OUTDATED
    use()


def test_a_session_that_the_server_has_ended_is_an_outage(engine: Engine, operator: Engine) -> None:
    # Given a process that stands still inside a transaction, until the server ends its session
    def assert_ended() -> None:
        with operator.begin() as connection:
            alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            assert connection.scalar(alive, {"pid": pid}) == 0

    with pytest.raises(DBAPIError) as caught, engine.begin() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        connection.execute(text("SET idle_in_transaction_session_timeout = '50ms'"))
        eventually(assert_ended)

        # When it continues
        read_on(connection)

    # Then the failure is an outage, after which the process has another session
    assert outages.reason(caught.value) == "the database cannot be reached"
    assert read(engine) == 1
