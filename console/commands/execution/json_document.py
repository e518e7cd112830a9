"""The option `--json` of commands that have no document of their own: their lines as a document."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from typing import Any

import click

from console.commands.execution.effect import commands


def install(group: click.Group) -> None:
    """Add `--json` to the commands of a group that do not have it.

    The document has the name of the command, its exit status, and the lines that it prints
    otherwise. It is printed at the end, also if the command fails; errors remain on stderr.
    """
    for name, command, _ in commands(group):
        if command.callback and not any("--json" in option.opts for option in command.params):
            command.params.append(
                click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document.")
            )
            command.callback = _documented(name, command.callback)


def _documented(name: str, run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def documented(*, as_json: bool, **parameters: Any) -> Any:
        if not as_json:
            return run(**parameters)
        printed, status = io.StringIO(), 0
        try:
            with redirect_stdout(printed):
                return run(**parameters)
        except BaseException as error:
            status = _status(error)
            raise
        finally:
            lines = printed.getvalue().splitlines()
            document = {"command": name, "exit_status": status, "lines": lines}
            click.echo(json.dumps(document, indent=2))

    return documented


def _status(error: BaseException) -> int:
    """Return the exit status with which `orderctl` ends for an error."""
    match error:
        case click.exceptions.Exit() | click.ClickException():
            return error.exit_code
        case SystemExit(code=int() as status):
            return status
        case SystemExit(code=None):
            return 0
    return 1
