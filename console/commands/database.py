"""`orderctl database`: roles, databases and tables."""

import click

from console.actions import database as actions
from console.settings import DatabaseAdminSettings, load_operator


@click.group()
def database() -> None:
    """Create and migrate the services' databases."""


@database.command(epilog="Example: orderctl database apply")
def apply() -> None:
    """Bring roles, databases and tables to what this release needs.

    Prints a line for each change. Running it again changes nothing.
    """
    changed = False
    for line in actions.apply(load_operator(DatabaseAdminSettings)):
        click.echo(line)
        changed = True
    if not changed:
        click.echo("databases: nothing to change")
