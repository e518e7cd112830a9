"""The read-only mode: a command that changes anything is refused before it connects."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from console.commands.execution.effect import Effect, commands
from console.settings import load_operator
from eventbus.settings.base import Settings


class ReadOnlySettings(Settings):
    """The read-only mode, which can also be set in the operator's dotenv file."""

    orderctl_read_only: bool = False


class ReadOnly(click.ClickException):
    """A command that changes something was refused: `EX_NOPERM` of sysexits.h."""

    exit_code = 77


#: The option of `orderctl` itself.
option = click.option(
    "--read-only", is_flag=True, help="Refuse every command that changes anything."
)


def install(group: click.Group) -> None:
    """Refuse the commands of a group that change anything while the mode is on."""
    for name, command, effect in commands(group):
        if effect.changes and command.callback:
            command.callback = _guarded(name, effect, command.callback)


def _guarded(name: str, effect: Effect, run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def guarded(**parameters: Any) -> Any:
        if effect.applies(parameters) and (origin := _origin()):
            change = f"{name} --{effect.flag}" if effect.flag else name
            raise ReadOnly(f"orderctl {change} is refused: {origin} is set. Nothing was changed.")
        return run(**parameters)

    return guarded


def _origin() -> str | None:
    """Return the option or the setting that has turned the mode on, or None."""
    if click.get_current_context().find_root().params.get("read_only"):
        return "--read-only"
    return "ORDERCTL_READ_ONLY" if load_operator(ReadOnlySettings).orderctl_read_only else None
