"""PROCESS: Celery's commands `worker` and `beat`, as in `python -m eventbus -A lending.app worker`.

The `celery` command would also load its other commands, an interactive shell and the plugins of
installed packages, none of which a service uses.
"""

import click
from celery.app.utils import find_app
from celery.bin.base import CLIContext
from celery.bin.beat import beat
from celery.bin.worker import worker


@click.group()
@click.option("-A", "--app", required=True, metavar="MODULE", help="Module with the Celery app.")
@click.pass_context
def main(context: click.Context, app: str) -> None:
    """Run a process of a Celery app until a signal ends it."""
    context.obj = CLIContext(app=find_app(app), no_color=False, workdir=None, quiet=True)


main.add_command(worker)
main.add_command(beat)

if __name__ == "__main__":
    main(prog_name="python -m eventbus")
