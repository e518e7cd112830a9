"""`orderctl completion`: the script that completes commands and options in a shell."""

import click
from click.shell_completion import get_completion_class

from console.commands.execution.effect import shows
from console.commands.execution.json_document import documented, report


@click.command(epilog='Example: eval "$(orderctl completion bash)"')
@shows
@documented("shell", "script")
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(ctx: click.Context, *, shell: str) -> None:
    """Print the completion script for a shell, to be evaluated in its start-up file."""
    complete = get_completion_class(shell)
    assert complete is not None  # noqa: S101  # click supports all three
    script = complete(ctx.find_root().command, {}, "orderctl", "_ORDERCTL_COMPLETE").source()
    report(shell=shell, script=script)
    click.echo(script)
