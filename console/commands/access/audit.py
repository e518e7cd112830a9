"""`orderctl audit`: the recorded actions of people, in the console and with `orderctl`."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta

import click
from sqlalchemy import create_engine, pool
from sqlalchemy.orm import Session

from common.kombu_topology import CONSOLE
from console.access import audit as log
from console.access.audit import Line
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.table import print_table
from console.commands.times import Age
from console.databases.service_database import transaction
from console.settings import AuditSettings, DatabaseSettings, load_operator, owner_name


@click.group(invoke_without_command=True, epilog="Example: orderctl audit --person ada --since 7d")
@shows
@click.option("--person", help="One person.")
@click.option("--action", help="One action, such as parked.redrive.")
@click.option("--since", type=Age(), help="Maximum age of a line: 12h, 7d.")
@click.option(
    "--limit",
    type=click.IntRange(1, log.LIMIT),
    default=100,
    show_default=True,
    help="Maximum number of lines.",
)
@click.option("--before", type=click.IntRange(1), help="Only lines before the one with this id.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def audit(
    ctx: click.Context,
    *,
    person: str | None,
    action: str | None,
    since: timedelta | None,
    limit: int,
    before: int | None,
    as_json: bool,
) -> None:
    """List the newest lines of the audit log, newest first."""
    if ctx.invoked_subcommand:
        return
    with transaction(load_operator(DatabaseSettings), CONSOLE) as session:
        lines = log.newest(
            session,
            person=person,
            action=action,
            since=datetime.now(UTC) - since if since else None,
            before=before,
            limit=limit,
        )
    if as_json:
        click.echo(json.dumps([_document(line) for line in lines], indent=2))
    elif lines:
        columns = ("Id", "At", "Person", "In", "Action", "Service", "Subject", "Outcome", "Detail")
        print_table((*columns, "Shown"), map(_cells, lines))
    else:
        click.echo("no lines")


@audit.command(epilog="Example: orderctl audit prune")
@changes()
@documented("deleted", "retention_days")
def prune() -> None:
    """Delete lines that are older than AUDIT_RETENTION_DAYS, as the owner of the table.

    The console and orderctl itself have no permission to delete lines.
    """
    settings = load_operator(AuditSettings)
    age = timedelta(days=settings.audit_retention_days)
    engine = create_engine(
        settings.admin_url_of(settings.database_name(CONSOLE.name)),
        poolclass=pool.NullPool,
        hide_parameters=True,
        connect_args={
            "connect_timeout": 5,
            "options": f"-c role={owner_name(CONSOLE.name)} -c statement_timeout=10s",
        },
    )
    total = 0
    deleted = -1
    while deleted:
        with Session(engine) as session, session.begin():
            deleted = log.forget(session, age)
        total += deleted
    report(deleted=total, retention_days=settings.audit_retention_days)
    click.echo(f"audit log: {total} lines older than {settings.audit_retention_days} days deleted")


def _cells(line: Line) -> tuple[object, ...]:
    at = line.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")
    action = (line.id, at, line.person, line.source, line.action, line.service, line.subject)
    return (*action, line.outcome, line.detail, line.revealed)


def _document(line: Line) -> dict[str, object]:
    return dataclasses.asdict(line) | {
        "at": line.at.isoformat(),
        "request_id": str(line.request_id),
    }
