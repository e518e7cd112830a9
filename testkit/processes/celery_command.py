"""Celery's commands `worker` and `beat`, without the plugins of the `celery` command.

The `celery` command imports each installed package that adds a command to it, such as Flower. In a
forked process, this is a large part of the cost of a start.
"""

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker


@click.group()
@click.option("-A", "--app", required=True, metavar="MODULE", help="Module with the Celery app.")
@click.option("-q", "--quiet", is_flag=True, help="Print no banner.")
@click.pass_context
def main(context: click.Context, app: str, quiet: bool) -> None:
    """Run a process of a Celery app until a signal ends it."""
    context.obj = CLIContext(app=find_app(app), no_color=False, workdir=None, quiet=quiet)


main.add_command(worker)
main.add_command(beat)
