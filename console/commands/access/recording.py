"""Recording of commands in the audit log, before they start and with their outcome."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from typing import Any

import click

from common.kombu_topology import CONSOLE
from console.access import audit
from console.access.audit import Entry, Outcome, Source
from console.commands.execution.effect import Effect, commands
from console.commands.operator import operator_name
from console.commands.table import printable
from console.databases.service_database import transaction
from console.settings import DatabaseSettings, load_operator
from eventbus.errors import ExpectedError
from eventbus.telemetry.privacy import described


def install(group: click.Group) -> None:
    """Record each command of a group whose effect is recorded."""
    for name, command, effect in commands(group):
        if effect.is_recorded and command.callback:
            command.callback = _recorded(name.replace(" ", "."), effect, command.callback)


def _recorded(name: str, effect: Effect, run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def recorded(**parameters: Any) -> Any:
        if not effect.applies(parameters):
            return run(**parameters)
        begun = _entry(name, effect, parameters)
        _store(begun)
        outcome, detail = Outcome.DONE, None
        try:
            return run(**parameters)
        except BaseException as error:
            outcome, detail = _ended(error)
            raise
        finally:
            reason = _store(replace(begun, outcome=outcome, detail=detail))
            if reason:
                _report(begun, outcome, reason)

    return recorded


def _entry(name: str, effect: Effect, parameters: Mapping[str, Any]) -> Entry:
    details = {each: parameters.get(each) for each in effect.details}
    return Entry(
        source=Source.ORDERCTL,
        person=operator_name(),
        action=name,
        service=effect.service or parameters.get("service"),
        subject=_text(parameters.get(effect.subject or "")),
        outcome=Outcome.BEGUN,
        detail="; ".join(f"{each}: {_text(v)}" for each, v in details.items() if v) or None,
    )


def _text(value: object) -> str | None:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or None
    return None if value is None else str(value)


def _ended(error: BaseException) -> tuple[Outcome, str | None]:
    """Return the outcome of a command that ended with an error, or with an exit status."""
    match error:
        case click.exceptions.Exit(exit_code=status) | SystemExit(code=status):
            if not status:
                return Outcome.DONE, None
            return Outcome.FAILED, f"exit status {status}" if isinstance(status, int) else status
        case click.Abort() | KeyboardInterrupt():
            return Outcome.FAILED, "interrupted"
        case click.ClickException():
            return Outcome.FAILED, error.format_message()
        case ExpectedError():
            return Outcome.FAILED, str(error)
    return Outcome.FAILED, described(error)


def _store(entry: Entry) -> str | None:
    def write(entry: Entry) -> None:
        with transaction(load_operator(DatabaseSettings), CONSOLE) as session:
            audit.write(session, entry)

    return audit.attempt(write, entry)


def _report(entry: Entry, outcome: Outcome, reason: str) -> None:
    about = " ".join(filter(None, (entry.person, entry.action, entry.service, entry.subject)))
    line = f"not in the audit log: {about} {outcome}, {entry.request_id}: {reason}"
    click.echo(printable(line), err=True)
