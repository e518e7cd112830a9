"""`orderctl database`: roles, databases and tables."""

import click

from console.actions import database as actions
from console.commands.execution.effect import changes, shows
from console.commands.execution.json_document import documented, report
from console.commands.table import print_line
from console.settings import DatabaseAdminSettings, load_operator

#: Exit status if the databases differ from those that this release requires.
DRIFT = 2


@click.group()
def database() -> None:
    """Create and migrate the services' databases."""


@database.command(epilog="Example: orderctl database plan")
@shows
@documented("differences")
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Print the changes that apply would make, and manual work; exit with status 2 if any.

    Changes nothing.
    """
    lines = list(actions.plan(load_operator(DatabaseAdminSettings)))
    report(differences=[_document(line) for line in lines])
    for line in lines:
        print_line(line)
    if lines:
        ctx.exit(DRIFT)
    click.echo("databases: no differences")


@database.command(epilog="Example: orderctl database apply")
@changes()
@documented("changes")
def apply() -> None:
    """Create and migrate roles, databases and tables as this release requires.

    Prints a line for each change. Running the command again changes nothing.
    """
    made = list[dict[str, str]]()
    # The list is the same object until the end, so if a change fails, the document contains the
    # earlier changes.
    report(changes=made)
    for line in actions.apply(load_operator(DatabaseAdminSettings)):
        print_line(line)
        made.append(_document(line))
    if not made:
        click.echo("databases: nothing to change")


def _document(line: str) -> dict[str, str]:
    """Split a line into its object, such as `database order`, and the change."""
    subject, _, change = line.partition(": ")
    return {"object": subject, "change": change}
