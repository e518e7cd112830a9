"""`orderctl people`: the people who may use the console."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE, SERVICES
from console.access import people as actions
from console.access.models import Role
from console.access.people import Entry
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.table import print_table
from console.databases.service_database import transaction
from console.settings import DatabaseSettings, load_operator

_name = click.argument("name")
_role_type = click.Choice([str(role) for role in Role])
_services = click.option(
    "--service",
    "services",
    type=click.Choice([service.name for service in SERVICES]),
    multiple=True,
    help="Service on which an operator may act; can be repeated. By default all.",
)


@click.group()
def people() -> None:
    """Add, list, change and disable people who may use the console."""


@people.command(epilog="Example: orderctl people add ada --role operator --service inventory")
@changes(subject="name", details=("role", "services"))
@documented("name", "role", "services", "password")
@_name
@click.option("--role", type=_role_type, required=True, help="What the person may do.")
@_services
def add(name: str, role: str, services: tuple[str, ...]) -> None:
    """Add a person and print the generated password once: only its hash is stored.

    A viewer reads all pages, with addresses of customers masked. An operator can also act on
    messages, orders and stock. An administrator can also read the audit log.
    """
    with _session() as session:
        password = actions.add(session, name, Role(role), services)
    report(name=name, role=role, services=list(services) or None, password=password)
    # The password is printed after the commit, because the password of a person who was not added
    # is useless.
    click.echo(password)


@people.command("list", epilog="Example: orderctl people list --json")
@shows
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def list_people(*, as_json: bool) -> None:
    """List the people by name, including those who are disabled."""
    with _session() as session:
        found = actions.everyone(session)
    if as_json:
        click.echo(json.dumps(list(map(_document, found)), indent=2))
    elif found:
        print_table(("Name", "Role", "Services", "Created", "Disabled"), map(_cells, found))
    else:
        click.echo("no people: only the login of the console's settings")


@people.command("role", epilog="Example: orderctl people role ada operator --service inventory")
@changes(subject="name", details=("role", "services"))
@documented("name", "role", "services")
@_name
@click.argument("role", type=_role_type)
@_services
def change_role(name: str, role: str, services: tuple[str, ...]) -> None:
    """Change a person's role, with effect from the next request."""
    with _session() as session:
        actions.change_role(session, name, Role(role), services)
    report(name=name, role=role, services=list(services) or None)
    limited = f" of {', '.join(services)}" if services else ""
    click.echo(f"{name}: {role}{limited}")


@people.command("password", epilog="Example: orderctl people password ada")
@changes(subject="name")
@documented("name", "password")
@_name
def change_password(name: str) -> None:
    """Replace a person's password, end their logins, and print the new password once."""
    with _session() as session:
        password = actions.change_password(session, name)
    report(name=name, password=password)
    click.echo(password)


@people.command(epilog="Example: orderctl people disable ada")
@changes(subject="name")
@documented("name", "is_disabled")
@_name
def disable(name: str) -> None:
    """End a person's logins and reject their password; the audit log still names them."""
    with _session() as session:
        actions.disable(session, name)
    report(name=name, is_disabled=True)
    click.echo(f"{name}: disabled")


@people.command(epilog="Example: orderctl people enable ada")
@changes(subject="name")
@documented("name", "is_disabled")
@_name
def enable(name: str) -> None:
    """Accept a disabled person's password again."""
    with _session() as session:
        actions.enable(session, name)
    report(name=name, is_disabled=False)
    click.echo(f"{name}: enabled")


@contextmanager
def _session() -> Iterator[Session]:
    with transaction(load_operator(DatabaseSettings), CONSOLE) as session:
        yield session


def _cells(entry: Entry) -> tuple[object, ...]:
    document = _document(entry)
    services = ", ".join(entry.services) if entry.services else None
    return tuple((document | {"services": services}).values())


def _document(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "role": entry.role,
        "services": entry.services,
        "created_at": entry.created_at.isoformat(timespec="seconds"),
        "disabled_at": entry.disabled_at and entry.disabled_at.isoformat(timespec="seconds"),
    }
