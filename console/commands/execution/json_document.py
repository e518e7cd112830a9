"""The JSON document of each command: one object or list with named fields, printed with `--json`.

A command that lists or checks has the option itself. Any other command declares the fields of its
document next to its parameters, and reports their values while it prints lines for a reader.
"""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import wraps
from typing import Any, TypeVar

import click
from sqlalchemy.exc import DBAPIError

from console.commands.execution.effect import commands
from console.errors import problem
from eventbus.errors import ExpectedError

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "orderctl_document"


def documented(*fields: str) -> Callable[[F], F]:
    """Declare the fields of a command's document. A field that is not reported is null."""

    def declare(command: F) -> F:
        setattr(command, _ATTRIBUTE, fields)
        return command

    return declare


def report(**fields: Any) -> None:
    """Report fields of the current command's document. A later value replaces an earlier value."""
    values = click.get_current_context().meta.get(_ATTRIBUTE)
    if values is not None:
        # A field that is not declared would be missing from the document of another call.
        if unknown := set(fields) - set(values):
            raise RuntimeError(f"the command declares no field {', '.join(sorted(unknown))}")
        values.update(fields)


def install(group: click.Group) -> None:
    """Add `--json` to the commands of a group that do not have it.

    The document also contains the name of the command, its exit status, and its error or null. It
    is printed at the end, even if the command fails; the error remains on stderr as well. Raises
    `RuntimeError` if such a command declares no document.
    """
    for name, command, _ in commands(group):
        if command.callback and not any("--json" in option.opts for option in command.params):
            command.params.append(
                click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON document.")
            )
            command.callback = _reporting(name, fields_of(name, command), command.callback)


def fields_of(name: str, command: click.Command) -> tuple[str, ...]:
    """Return the declared fields of a command's document. Raises `RuntimeError` without any."""
    fields: tuple[str, ...] = getattr(command.callback, _ATTRIBUTE, ())
    if not fields:
        raise RuntimeError(f"orderctl {name} declares no document, see {__name__}")
    return fields


def _reporting(name: str, fields: tuple[str, ...], run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def reporting(*, as_json: bool, **parameters: Any) -> Any:
        if not as_json:
            return run(**parameters)
        values: dict[str, Any] = dict.fromkeys(fields)
        click.get_current_context().meta[_ATTRIBUTE] = values
        status, reason = 0, None
        try:
            # These lines are printed for a reader.
            with redirect_stdout(io.StringIO()):
                return run(**parameters)
        except BaseException as error:
            status, reason = _ended(error)
            raise
        finally:
            ending = {"command": name, "exit_status": status, "error": reason}
            click.echo(json.dumps(ending | values, indent=2))

    return reporting


def _ended(error: BaseException) -> tuple[int, str | None]:
    """Return the exit status with which `orderctl` ends for an error, and the error's text."""
    match error:
        case click.exceptions.Exit():
            return error.exit_code, None
        case click.ClickException():
            return error.exit_code, error.format_message()
        case SystemExit(code=int() as status):
            return status, None
        case SystemExit(code=None):
            return 0, None
        case SystemExit(code=text):
            # The code is a string if the settings are invalid.
            return 1, str(text)
        case click.Abort():
            return 1, "interrupted"
        case ExpectedError() | DBAPIError():
            return 1, problem(error)
    return 1, type(error).__name__
