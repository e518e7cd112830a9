"""`orderctl people` on a real database."""

import json
from typing import Any

import pytest
from sqlalchemy import select

from common.kombu_topology import CONSOLE
from console.access import passwords
from console.access.models import PersonRow
from console.databases.service_database import transaction
from console.settings import DatabaseSettings
from testkit.processes.orderctl import orderctl

Environment = dict[str, str]


@pytest.fixture
def settings(database: DatabaseSettings) -> DatabaseSettings:
    """The settings of `orderctl`."""
    return database


def added(env: Environment, name: str, role: str, *services: str) -> str:
    """Add a person, and return the password."""
    limits = (word for service in services for word in ("--service", service))
    result = orderctl(env, "people", "add", name, "--role", role, *limits)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def listed(env: Environment) -> dict[str, dict[str, Any]]:
    result = orderctl(env, "people", "list", "--json")
    assert result.exit_code == 0, result.output
    return {person["name"]: person for person in json.loads(result.stdout)}


def password_hash(settings: DatabaseSettings, name: str) -> str:
    with transaction(settings, CONSOLE) as session:
        return session.scalars(select(PersonRow.password_hash).where(PersonRow.name == name)).one()


def test_a_person_is_added_with_a_password_that_is_printed_once(
    env: Environment, settings: DatabaseSettings
) -> None:
    # When people are added
    password = added(env, "ada", "operator", "inventory", "fraud")
    added(env, "vera", "viewer")

    # Then only the hash of a password is stored, and the list does not contain it
    stored = password_hash(settings, "ada")
    assert len(password) == 24
    assert stored.startswith("scrypt:")
    assert passwords.is_right(password, stored)
    listing = orderctl(env, "people", "list").stdout
    assert "scrypt" not in listing
    assert "fraud, inventory" in listing
    people = listed(env)
    assert (people["ada"]["role"], people["ada"]["services"]) == (
        "operator",
        ["fraud", "inventory"],
    )
    assert (people["vera"]["services"], people["vera"]["disabled_at"]) == (None, None)


def test_a_role_and_a_password_are_changed(env: Environment, settings: DatabaseSettings) -> None:
    # Given an operator
    first = added(env, "ada", "operator", "inventory")

    # When the role and the password are changed
    changed = orderctl(env, "people", "role", "ada", "admin")
    second = orderctl(env, "people", "password", "ada").stdout.strip()

    # Then the person has the new ones
    assert (changed.exit_code, changed.stdout) == (0, "ada: admin\n")
    person = listed(env)["ada"]
    assert (person["role"], person["services"]) == ("admin", None)
    stored = password_hash(settings, "ada")
    assert passwords.is_right(second, stored)
    assert not passwords.is_right(first, stored)


def test_a_disabled_person_stays_listed_and_can_be_enabled(env: Environment) -> None:
    # Given a person who is disabled twice
    added(env, "ada", "viewer")
    assert orderctl(env, "people", "disable", "ada").stdout == "ada: disabled\n"
    disabled_at = listed(env)["ada"]["disabled_at"]
    orderctl(env, "people", "disable", "ada")

    # Then the first time is kept
    assert listed(env)["ada"]["disabled_at"] == disabled_at is not None

    # When the person is enabled
    assert orderctl(env, "people", "enable", "ada").stdout == "ada: enabled\n"

    # Then the list shows it
    assert listed(env)["ada"]["disabled_at"] is None


@pytest.mark.parametrize(
    ("arguments", "status", "part"),
    [
        (("add", "ada@example.com", "--role", "viewer"), 1, "must have 1 to 64 letters"),
        (("add", "ada", "--role", "viewer"), 1, "person ada exists already"),
        (("add", "eve", "--role", "viewer", "--service", "order"), 1, "only an operator"),
        (("add", "eve", "--role", "owner"), 64, "--role"),
        (("add", "eve", "--role", "operator", "--service", "trace"), 64, "--service"),
        (("add", "eve"), 64, "--role"),
        (("role", "eve", "admin"), 1, "person eve does not exist"),
        (("password", "eve"), 1, "person eve does not exist"),
        (("disable", "eve"), 1, "person eve does not exist"),
    ],
)
def test_a_wrong_argument_is_reported_in_one_line(
    env: Environment, arguments: tuple[str, ...], status: int, part: str
) -> None:
    # Given a person
    added(env, "ada", "admin")

    # When a command cannot be run
    result = orderctl(env, "people", *arguments)

    # Then it reports why, and changes nothing
    assert (result.exit_code, result.stdout) == (status, "")
    assert part in result.stderr
    assert result.stderr.count("\n") == 1
    assert {name: person["role"] for name, person in listed(env).items()} == {"ada": "admin"}
