"""`orderctl database`: roles, databases and tables."""

import click

from console.actions import database as actions
from console.commands.execution.effect import changes, shows
from console.commands.table import print_line
from console.settings import DatabaseAdminSettings, load_operator

#: Exit status when the databases differ from what this release requires.
DRIFT = 2


@click.group()
def database() -> None:
    """Create and migrate the services' databases."""


@database.command(epilog="Example: orderctl database plan")
@shows
@click.pass_context
def plan(ctx: click.Context) -> None:
    """Print the changes that apply would make, and manual work; exit with status 2 if any.

    Changes nothing.
    """
    lines = list(actions.plan(load_operator(DatabaseAdminSettings)))
    for line in lines:
        print_line(line)
    if lines:
        ctx.exit(DRIFT)
    click.echo("databases: no differences")


@database.command(epilog="Example: orderctl database apply")
@changes()
def apply() -> None:
    """Create and migrate roles, databases and tables as this release requires.

    Prints a line for each change. Running the command again changes nothing.
    """
    changed = False
    for line in actions.apply(load_operator(DatabaseAdminSettings)):
        print_line(line)
        changed = True
    if not changed:
        click.echo("databases: nothing to change")
