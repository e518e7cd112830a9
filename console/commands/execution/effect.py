"""The effect of a command, which each command declares next to its parameters.

The read-only mode and the audit log are derived from it. A command without a declaration is an
error when `orderctl` starts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "orderctl_effect"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """The change that a command makes, and the parameters that the audit log records."""

    #: Whether it changes the running system or files on this machine.
    changes: bool
    is_recorded: bool
    #: The parameter that names the object on which it acts.
    subject: str | None = None
    #: The service on which it acts; by default its parameter `service`, if it has one.
    service: str | None = None
    #: Additional parameters that are recorded; other parameters may contain personal data.
    details: tuple[str, ...] = ()
    #: The flag without which it neither changes nor records anything.
    flag: str | None = None

    def applies(self, parameters: dict[str, Any]) -> bool:
        """Return whether a call with these parameters has the effect."""
        return self.flag is None or bool(parameters[self.flag])


def shows(command: F) -> F:
    """Declare that a command changes nothing, other than to remember failure groups."""
    return _declared(Effect(changes=False, is_recorded=False))(command)


def writes(command: F) -> F:
    """Declare that a command only changes files on this machine."""
    return _declared(Effect(changes=True, is_recorded=False))(command)


def reveals(*, subject: str | None = None) -> Callable[[F], F]:
    """Declare that a command changes nothing, and shows addresses of customers with `--reveal`."""
    return _declared(
        Effect(changes=False, is_recorded=True, service="order", subject=subject, flag="reveal")
    )


def changes(
    *,
    subject: str | None = None,
    service: str | None = None,
    details: tuple[str, ...] = (),
    flag: str | None = None,
) -> Callable[[F], F]:
    """Declare that a command changes the running system; the arguments are those of `Effect`."""
    return _declared(
        Effect(
            changes=True,
            is_recorded=True,
            subject=subject,
            service=service,
            details=details,
            flag=flag,
        )
    )


def commands(
    group: click.Group, path: tuple[str, ...] = ()
) -> Iterator[tuple[str, click.Command, Effect]]:
    """Yield each command that can run, with its name in full and its effect.

    Raises `RuntimeError` if a command declares none. `path` leads to the group.
    """
    for name, command in group.commands.items():
        names = (*path, name)
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield " ".join(names), command, _effect_of(" ".join(names), command)
        if isinstance(command, click.Group):
            yield from commands(command, names)


def _declared(effect: Effect) -> Callable[[F], F]:
    def declare(command: F) -> F:
        setattr(command, _ATTRIBUTE, effect)
        return command

    return declare


def _effect_of(name: str, command: click.Command) -> Effect:
    effect: Effect | None = getattr(command.callback, _ATTRIBUTE, None)
    if effect is None:
        raise RuntimeError(f"orderctl {name} declares no effect, see {__name__}")
    return effect
