"""The description of an error names the failure, and never repeats a customer's value."""

import json
import logging
import smtplib
import ssl

import psycopg2
import pytest
from billiard.exceptions import WorkerLostError
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, PendingRollbackError, SQLAlchemyError

from eventbus.database.db import Sessions, transaction
from eventbus.errors import Permanent, Transient
from eventbus.telemetry.logs import JsonLine
from eventbus.telemetry.privacy import REPLY_LIMIT, described, masked, reply
from testkit.servers.infrastructure import Infrastructure

ADDRESS = "ada@example.com"

_TABLE = """
CREATE TABLE customers (
    email text CONSTRAINT pk_customers PRIMARY KEY,
    age integer CONSTRAINT ck_customers_age CHECK (age >= 0),
    name varchar(5) NOT NULL
)
"""


def failure_of(sessions: Sessions, statement: str) -> SQLAlchemyError:
    """Return the error of a statement on a table that already contains the address."""
    with transaction(sessions) as session:
        session.execute(text("DROP TABLE IF EXISTS customers"))
        session.execute(text(_TABLE))
        session.execute(text("INSERT INTO customers VALUES (:a, 1, 'Ada')"), {"a": ADDRESS})
    with pytest.raises(SQLAlchemyError) as raised, transaction(sessions) as session:
        session.execute(text("SET LOCAL statement_timeout = '100ms'"))
        session.execute(text(statement), {"a": ADDRESS})
    return raised.value


@pytest.mark.parametrize(
    ("statement", "description"),
    [
        (
            "INSERT INTO customers VALUES (:a, 1, 'Ada')",
            "UniqueViolation: SQLSTATE 23505, table customers, constraint pk_customers",
        ),
        (
            "INSERT INTO customers VALUES ('x' || :a, -1, 'Ada')",
            "CheckViolation: SQLSTATE 23514, table customers, constraint ck_customers_age",
        ),
        (
            "INSERT INTO customers VALUES ('x' || :a, 1, NULL)",
            "NotNullViolation: SQLSTATE 23502, table customers, column name",
        ),
        (
            "INSERT INTO customers VALUES ('x' || :a, 1, :a)",
            "StringDataRightTruncation: SQLSTATE 22001",
        ),
        ("SELECT CAST(:a AS uuid)", "InvalidTextRepresentation: SQLSTATE 22P02"),
        (
            "DO $$ BEGIN RAISE EXCEPTION 'refused: %', 'ada@example.com'; END $$",
            "RaiseException: SQLSTATE P0001",
        ),
        (
            "SELECT pg_sleep(60), :a",
            "QueryCanceled: SQLSTATE 57014, canceling statement due to statement timeout",
        ),
        (
            "SELECT :a FROM nothing",
            'UndefinedTable: SQLSTATE 42P01, relation "nothing" does not exist',
        ),
    ],
)
def test_a_database_error_is_described_without_values(
    order_database: Sessions, statement: str, description: str
) -> None:
    error = failure_of(order_database, statement)

    assert described(error) == description
    assert ADDRESS not in described(error)


def test_the_message_of_postgresql_contains_the_value(order_database: Sessions) -> None:
    """Verify that the errors above would contain the value."""
    error = failure_of(order_database, "INSERT INTO customers VALUES (:a, 1, 'Ada')")

    assert ADDRESS in str(error)


def test_a_rolled_back_session_does_not_repeat_the_first_error(order_database: Sessions) -> None:
    # Given a session whose flush failed on the address
    failure_of(order_database, "SELECT CAST(:a AS uuid)")
    error = PendingRollbackError(f"Original exception was: Key (email)=({ADDRESS}) exists")

    assert ADDRESS not in described(error)


def test_a_nul_character_in_an_address_is_not_repeated(order_database: Sessions) -> None:
    with pytest.raises(Exception) as raised, transaction(order_database) as session:  # noqa: PT011
        session.execute(text("SELECT :a"), {"a": f"{ADDRESS}\0"})

    assert described(raised.value).startswith("ValueError: raised in ")
    assert ADDRESS not in described(raised.value)


def test_a_lost_connection_is_described_by_its_cause(order_database: Sessions) -> None:
    with pytest.raises(OperationalError) as raised, transaction(order_database) as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid()), :a"), {"a": ADDRESS})

    assert described(raised.value) == (
        "OperationalError: SSL connection has been closed unexpectedly"
    )


def test_an_unreachable_server_is_named(servers: Infrastructure) -> None:
    with pytest.raises(psycopg2.OperationalError) as raised:
        psycopg2.connect(host="127.0.0.1", port=1, user="order", connect_timeout=5)

    assert "127.0.0.1" in described(raised.value)


def test_an_error_of_this_system_keeps_its_message() -> None:
    assert described(Transient("the broker is away")) == "Transient: the broker is away"
    assert described(Permanent()) == "Permanent: " + (Permanent.__doc__ or "")


@pytest.mark.parametrize("error", [KeyError(ADDRESS), ValueError(ADDRESS), TypeError(ADDRESS)])
def test_another_error_is_described_by_its_place(error: Exception) -> None:
    with pytest.raises(type(error)) as raised:
        raise error

    assert described(raised.value).startswith(f"{type(error).__name__}: raised in security/")
    assert ADDRESS not in described(raised.value)


def test_an_error_that_was_never_raised_is_described_by_its_class() -> None:
    assert described(ValueError(ADDRESS)) == "ValueError"


@pytest.mark.parametrize(
    ("error", "description"),
    [
        (
            smtplib.SMTPDataError(550, f"5.1.1 <{ADDRESS}>: unknown".encode()),
            "SMTPDataError: 550 5.1.1 <***>: unknown",
        ),
        (smtplib.SMTPRecipientsRefused({ADDRESS: (550, b"no")}), "SMTPRecipientsRefused"),
        (
            smtplib.SMTPServerDisconnected("Connection unexpectedly closed"),
            "SMTPServerDisconnected: Connection unexpectedly closed",
        ),
        (
            ConnectionRefusedError(111, "Connection refused"),
            "ConnectionRefusedError: [Errno 111] Connection refused",
        ),
        (TimeoutError("timed out"), "TimeoutError: timed out"),
        (ssl.SSLError(1, "certificate has expired"), "SSLError: certificate has expired"),
        (WorkerLostError("signal 9 (SIGKILL)"), "WorkerLostError: signal 9 (SIGKILL)"),
        (AttributeError("'NoneType' has no attribute 'sku'"), None),
        (Permanent(f"{ADDRESS} is unknown"), "Permanent: *** is unknown"),
    ],
)
def test_an_infrastructure_error_keeps_its_cause(error: Exception, description: str | None) -> None:
    assert described(error) == (description or f"{type(error).__name__}: {error}")
    assert ADDRESS not in described(error)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5.1.1 <ada@example.com>: user unknown", "550 5.1.1 <***>: user unknown"),
        ("rcpt to:Ada@Example.com", "550 rcpt to:***"),
        ('"ada lovelace"@example.com rejected', "550 *** rejected"),
        ("ada+news@example.com and bounce=ada=example.com@relay.net", "550 *** and ***"),
        ("see https://help.net/?email=ada%40example.com", "550 see https:***"),
        ("mailbox ADA is full", "550 mailbox *** is full"),
        ("no mail for example.com.", "550 no mail for ***."),
        ("mx.example.com refuses adamant clients", "550 mx.example.com refuses adamant clients"),
        ("\xe4\xf6@b\xfccher.example unknown", "550 *** unknown"),
    ],
)
def test_a_mail_servers_reply_is_masked_and_keeps_its_codes(text: str, expected: str) -> None:
    assert reply(550, text.encode(), ADDRESS) == expected


def test_a_reply_keeps_its_code_if_the_local_part_is_the_same() -> None:
    assert reply(550, "550 is unknown", "550@example.com") == "550 *** is unknown"


def test_a_long_reply_is_limited_after_it_is_masked() -> None:
    text = "x" * (REPLY_LIMIT - 10) + f" {ADDRESS}"

    assert len(reply(550, text)) == REPLY_LIMIT - 2
    assert reply(550, text).endswith("***")
    assert len(reply(550, 10 * text)) == REPLY_LIMIT


def test_a_text_without_an_address_is_unchanged() -> None:
    text = 'could not connect to "127.0.0.1", port 5432 (order): refused; [Errno 111]'

    assert masked(text) == text


@pytest.mark.parametrize("level", [logging.INFO, logging.ERROR])
def test_an_error_in_a_log_line_is_described(level: int) -> None:
    error = ValueError(ADDRESS)
    record = logging.LogRecord("x", level, "x.py", 1, "%s: %r", ("handler", error), None)
    record.cause = error

    line = json.loads(JsonLine().format(record))

    assert line["message"] == "handler: 'ValueError'"
    assert line["cause"] == "ValueError"
