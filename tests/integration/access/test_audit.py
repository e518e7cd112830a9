"""The audit log: what `orderctl` records, what its table permits, and what is deleted."""

import json
from typing import Any

import pytest
from sqlalchemy import create_engine, pool, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE
from console.access import audit
from console.access.audit import Entry, Outcome
from console.commands import operator
from console.databases.service_database import sessions, transaction
from console.settings import AuditSettings
from eventbus.database.db import Sessions
from testkit.data.page_reads import counted
from testkit.processes.orderctl import orderctl

Environment = dict[str, str]

#: Lines of several people, one each minute until now, with statistics of the full table.
_LINES = """
INSERT INTO audit_log (at, source, person, action, outcome, request_id)
SELECT now() - n * interval '1 minute', 'orderctl', 'person-' || mod(n, 100),
    'action-' || mod(n, 10), 'done', gen_random_uuid()
FROM generate_series(1, 20000) AS n
"""

_HALF_ARE_OLD = "UPDATE audit_log SET at = now() - (399 + 2 * mod(id, 2)) * interval '1 day'"


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's user."""
    monkeypatch.setattr(operator.getpass, "getuser", lambda: "ada")


@pytest.fixture
def settings(database: AuditSettings) -> AuditSettings:
    """The settings of `orderctl`."""
    return database


def listed(env: Environment, *arguments: str) -> list[dict[str, Any]]:
    """Return the lines of the audit log, the oldest first."""
    result = orderctl(env, "audit", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return list(json.loads(result.stdout))[::-1]


def as_administrator(settings: AuditSettings, *statements: str) -> None:
    url = settings.admin_url_of(settings.database_name(CONSOLE.name))
    engine = create_engine(url, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def test_a_command_is_recorded_before_it_begins_and_with_its_outcome(env: Environment) -> None:
    # When a command succeeds
    reason = ("--reason", "for ada@example.com")
    assert orderctl(env, "stock", "receive", "TEA", "20", *reason).exit_code == 0

    # Then two lines have its person, subject and reason, and no address
    begun, done = listed(env)
    assert (begun["source"], begun["person"], begun["action"]) == (
        "orderctl",
        "ada",
        "stock.receive",
    )
    assert (begun["service"], begun["subject"], begun["outcome"]) == ("inventory", "TEA", "begun")
    assert begun["detail"] == "pieces: 20; reason: for ***"
    assert (done["outcome"], done["request_id"]) == ("done", begun["request_id"])


def test_a_command_that_fails_is_recorded_with_the_error(env: Environment) -> None:
    # When commands fail: by an error, by an answer, by an exception
    orderctl(env, "keys", "revoke", "zz")
    orderctl(env, "parked", "discard", "order", "--id", "e-1", "--reason", "x", answer="n\n")

    # Then their outcomes are recorded
    _, revoked, _, declined = listed(env)
    assert (revoked["outcome"], "zz" in revoked["detail"]) == ("failed", True)
    assert (declined["outcome"], declined["detail"]) == ("failed", "interrupted")


def test_a_command_that_is_interrupted_leaves_its_beginning(
    env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a process that exits without its cleanup, after its effect
    def store_only_the_beginning(session: Session, entry: Entry) -> None:
        if entry.outcome is Outcome.BEGUN:
            write(session, entry)

    write = audit.write
    monkeypatch.setattr(audit, "write", store_only_the_beginning)

    # When it changes stock
    orderctl(env, "stock", "add", "TEA", "1")

    # Then the log contains the attempt
    assert [line["outcome"] for line in listed(env)] == ["begun"]


def test_a_command_that_only_shows_data_is_not_recorded(env: Environment) -> None:
    for arguments in (
        ("stock", "show"),
        ("people", "list"),
        ("audit",),
        ("database", "plan"),
        ("stock", "add", "TEA", "none"),
    ):
        orderctl(env, *arguments)

    assert listed(env) == []


def test_a_password_is_not_recorded(env: Environment) -> None:
    password = orderctl(env, "people", "add", "eve", "--role", "viewer").stdout.strip()

    assert listed(env)[0]["detail"] == "role: viewer"
    assert password not in str(listed(env))


def test_a_command_works_without_the_log_and_reports_it(
    env: Environment, settings: AuditSettings
) -> None:
    # Given a console's database that is away
    as_administrator(settings, "ALTER TABLE audit_log RENAME TO away")

    # When a command is run
    result = orderctl(env, "stock", "add", "TEA", "1")

    # Then it succeeds, and prints the line that was not stored
    assert result.exit_code == 0
    assert result.stderr.startswith("not in the audit log: ada stock.add inventory TEA done, ")
    assert result.stderr.count("\n") == 1


def test_lines_are_found_by_person_action_and_age(
    env: Environment, settings: AuditSettings
) -> None:
    # Given an old line, and lines of two commands
    orderctl(env, "stock", "add", "OLD", "1")
    as_administrator(settings, "UPDATE audit_log SET at = now() - interval '3 days'")
    orderctl(env, "stock", "add", "TEA", "1")
    orderctl(env, "people", "add", "eve", "--role", "viewer")

    # Then each criterion selects its lines
    assert [line["subject"] for line in listed(env, "--since", "2d")] == ["TEA"] * 2 + ["eve"] * 2
    assert [line["subject"] for line in listed(env, "--action", "people.add")] == ["eve"] * 2
    assert listed(env, "--person", "bob") == []
    # And a page starts before a line
    newest = listed(env, "--limit", "1")
    assert [line["outcome"] for line in newest] == ["done"]
    (before,) = listed(env, "--limit", "1", "--before", str(newest[0]["id"]))
    assert (before["subject"], before["outcome"]) == ("eve", "begun")
    assert orderctl(env, "audit", "--before", "999999").exit_code == 1


def test_the_console_can_only_add_lines(env: Environment, settings: AuditSettings) -> None:
    # Given a line
    orderctl(env, "stock", "add", "TEA", "1")

    # When the role of the console changes or deletes lines
    for statement in (
        "UPDATE audit_log SET person = 'eve'",
        "DELETE FROM audit_log",
        "TRUNCATE audit_log",
        "ALTER TABLE audit_log DISABLE TRIGGER ALL",
        "DROP TABLE audit_log",
    ):
        with (
            pytest.raises(DBAPIError, match=r"permission denied|must be owner"),
            transaction(settings, CONSOLE) as session,
        ):
            session.execute(text(statement))

    # Then all lines are unchanged
    assert {line["person"] for line in listed(env)} == {"ada"}


def test_only_old_lines_are_pruned_and_this_is_recorded(
    env: Environment, settings: AuditSettings
) -> None:
    # Given more old lines than one transaction deletes, and as many others
    as_administrator(settings, _LINES, _HALF_ARE_OLD)

    # When they are pruned, twice
    result = orderctl(env, "audit", "prune")
    again = orderctl(env, "audit", "prune")

    # Then exactly these are deleted
    assert result.stdout == "audit log: 10000 lines older than 400 days deleted\n", result.output
    assert again.stdout == "audit log: 0 lines older than 400 days deleted\n"
    with transaction(settings, CONSOLE) as session:
        assert session.scalar(text("SELECT count(*) FROM audit_log")) == 10_000 + 4
    assert [line["outcome"] for line in listed(env, "--action", "audit.prune")] == [
        "begun",
        "done",
    ] * 2


@pytest.mark.parametrize(
    "criteria",
    [
        {},
        {"person": "person-7"},
        {"action": "action-7"},
        {"person": "person-7", "before": True},
        {"person": "nobody"},
    ],
    ids=["all", "person", "action", "page", "none"],
)
def test_a_page_reads_few_pages_of_a_large_log(
    settings: AuditSettings, criteria: dict[str, Any]
) -> None:
    # Given a large log
    as_administrator(settings, _LINES, "ANALYZE audit_log")
    with sessions(settings, CONSOLE) as own:
        if criteria.pop("before", False):
            criteria["before"] = _middle(own)

        # When a page is read
        with counted(own) as pages, own() as session:
            lines = audit.newest(session, **criteria)

    # Then its cost depends on the page, not on the log
    assert len(lines) == (0 if criteria.get("person") == "nobody" else 100)
    assert 0 < sum(pages) < 500


def _middle(own: Sessions) -> int:
    with own() as session:
        return audit.newest(session, person="person-7", limit=100)[-1].id
