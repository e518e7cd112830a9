"""Errors of the database server are outages; errors of statements and programs are not."""

import psycopg2
import pytest
from psycopg2 import errors
from sqlalchemy import exc

from eventbus.database import outages
from eventbus.errors import Transient

OUTAGES = {
    "08000": "the database cannot be reached",
    "08006": "the database cannot be reached",
    "08P01": "the database cannot be reached",
    "25006": "the database takes no writes",
    "25P03": "the database cannot be reached",
    "25P04": "the database cannot be reached",
    "26000": "a connection's prepared statements are outdated",
    "42P05": "a connection's prepared statements are outdated",
    "53000": "the database is out of resources",
    "53100": "the database is out of resources",
    "53200": "the database is out of resources",
    "53300": "the database is out of resources",
    "53400": "the database is out of resources",
    "57P01": "the database is shutting down or starting",
    "57P02": "the database is shutting down or starting",
    "57P03": "the database is shutting down or starting",
    "57P04": "the database is shutting down or starting",
    "57P05": "the database is shutting down or starting",
    "58000": "the database's system has failed",
    "58030": "the database's system has failed",
    "58P01": "the database's system has failed",
}
CONTENTION = ("40001", "40P01", "55P03", "57014")
OTHERS = ("22003", "22P05", "23505", "23514", "25P02", "42501", "42P01", "54001", "XX000")


def of_the_driver(sqlstate: str) -> psycopg2.Error:
    error: psycopg2.Error = errors.lookup(sqlstate)(f"an error {sqlstate}")
    # The driver restores errors in the same way.
    error.__setstate__({"pgcode": sqlstate})
    return error


def wrapped(error: psycopg2.Error, *, invalidated: bool = False) -> exc.DBAPIError:
    return exc.DBAPIError("SELECT 1", {}, error, connection_invalidated=invalidated)


@pytest.mark.parametrize(("sqlstate", "reason"), OUTAGES.items())
def test_an_outage_has_a_reason(sqlstate: str, reason: str) -> None:
    error = of_the_driver(sqlstate)

    assert outages.reason(error) == reason
    assert outages.reason(wrapped(error)) == reason
    assert not outages.contention(error)


def test_an_invalidated_connection_has_the_reason_of_the_outage() -> None:
    error = wrapped(of_the_driver("25006"), invalidated=True)

    assert outages.reason(error) == "the database takes no writes"


@pytest.mark.parametrize("sqlstate", CONTENTION)
def test_contention_is_not_an_outage(sqlstate: str) -> None:
    error = wrapped(of_the_driver(sqlstate))

    assert outages.contention(error)
    assert outages.reason(error) is None


@pytest.mark.parametrize("sqlstate", OTHERS)
def test_a_bad_statement_is_not_an_outage(sqlstate: str) -> None:
    error = wrapped(of_the_driver(sqlstate))

    assert outages.reason(error) is None
    assert not outages.contention(error)


@pytest.mark.parametrize(
    "error",
    [
        psycopg2.OperationalError("server closed the connection unexpectedly"),
        psycopg2.InterfaceError("connection already closed"),
        psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"),
        wrapped(psycopg2.OperationalError("could not connect to server")),
        wrapped(psycopg2.InternalError("terminating connection"), invalidated=True),
        wrapped(of_the_driver("XX000"), invalidated=True),
        exc.DisconnectionError("the database has closed the connection"),
        exc.PendingRollbackError("Can't reconnect until rollback", code="8s2b"),
    ],
)
def test_a_lost_connection_is_an_outage(error: Exception) -> None:
    assert outages.reason(error) == "the database cannot be reached"


def test_a_database_that_does_not_respond_is_an_outage() -> None:
    assert outages.reason(outages.NoResponse()) == "the database does not respond"


def test_an_exhausted_pool_is_an_outage() -> None:
    assert outages.reason(exc.TimeoutError()) == "all connections to the database are in use"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        TimeoutError(),
        psycopg2.ProgrammingError("no results to fetch"),
        wrapped(psycopg2.DataError("a value is out of range")),
        exc.PendingRollbackError("a flush failed", code="7s2a"),
        exc.NoResultFound(),
    ],
)
def test_an_error_of_the_program_is_not_an_outage(error: Exception) -> None:
    assert outages.reason(error) is None


def test_an_error_that_an_outage_caused_is_an_outage() -> None:
    error = Transient("the stock cannot be read")
    error.__cause__ = wrapped(of_the_driver("53100"))

    assert outages.reason(error) == "the database is out of resources"


def test_a_circular_chain_of_causes_is_followed_once() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first

    assert outages.reason(first) is None
