"""Recording of commands in the audit log, before they start and with their outcome."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from types import MappingProxyType
from typing import Any

import click

from common.kombu_topology import CONSOLE
from console.access import audit
from console.access.audit import Entry, Outcome, Source
from console.commands.operator import operator_name
from console.commands.table import printable
from console.databases.service_database import transaction
from console.settings import DatabaseSettings, load_operator
from eventbus.errors import ExpectedError
from eventbus.telemetry.privacy import described


@dataclass(frozen=True, kw_only=True)
class Action:
    """A command that acts, and which of its parameters are recorded."""

    #: The parameter that names what it acts on.
    subject: str | None = None
    #: The service on which it acts; by default its parameter `service`, if it has one.
    service: str | None = None
    #: Further parameters that are recorded; others may contain personal data.
    details: tuple[str, ...] = ()
    #: The flag without which it only shows data.
    flag: str | None = None


_STOCK = Action(service="inventory", subject="sku", details=("pieces", "reason", "reference"))

#: The commands that change the running system, or show addresses of customers.
ACTIONS: Mapping[str, Action] = MappingProxyType(
    {
        "analytics replay": Action(service="analytics"),
        "audit prune": Action(),
        "database apply": Action(),
        "keys create": Action(service="order", subject="name", details=("scopes",)),
        "keys register": Action(service="order", subject="name", details=("scopes",)),
        "keys revoke": Action(service="order", subject="prefix"),
        "orders cancel": Action(service="order", subject="order_id", details=("reason",)),
        "orders list": Action(service="order", flag="reveal"),
        "orders show": Action(service="order", subject="order_id", flag="reveal"),
        "orders stuck": Action(service="order", flag="reveal"),
        "orders ship": Action(service="order", subject="order_ids"),
        "parked abort": Action(subject="plan_id"),
        "parked discard": Action(subject="event_ids", details=("reason",)),
        "parked assign": Action(subject="key", details=("owner", "clear")),
        "parked edit": Action(subject="event_id", details=("reason", "redrive")),
        "parked mute": Action(subject="key", details=("duration", "reason", "off")),
        "parked note": Action(subject="key"),
        "parked pause": Action(subject="plan_id"),
        "parked plan": Action(subject="event_ids", details=("types", "failures", "frames")),
        "parked redrive": Action(subject="event_ids", details=("every",)),
        "parked release": Action(subject="event_id", details=("reason",)),
        "parked restore": Action(subject="numbers"),
        "parked resume": Action(subject="plan_id", details=("rate",)),
        "parked run": Action(subject="plan_id", details=("rate",)),
        "pause": Action(details=("reason",)),
        "people add": Action(subject="name", details=("role", "services")),
        "people disable": Action(subject="name"),
        "people enable": Action(subject="name"),
        "people password": Action(subject="name"),
        "people role": Action(subject="name", details=("role", "services")),
        "reconcile": Action(flag="repair"),
        "resume": Action(),
        "restore heal": Action(details=("since",)),
        "stock add": _STOCK,
        "stock correct": _STOCK,
        "stock count": _STOCK,
        "stock import": Action(
            service="inventory", subject="file", details=("reason", "reference")
        ),
        "stock receive": _STOCK,
        "stock set": _STOCK,
        "subscribe": Action(),
        "topology apply": Action(details=("prune",)),
        "topology scale": Action(details=("parts",)),
    }
)

#: The commands that only show data, or write files on this machine.
OTHERS = frozenset(
    {
        "audit",
        "contracts check",
        "contracts release",
        "contracts retire",
        "database plan",
        "health",
        "keys list",
        "parked discarded",
        "parked groups",
        "parked history",
        "parked list",
        "parked plans",
        "paused",
        "people list",
        "restore check",
        "stock check",
        "stock movements",
        "stock show",
        "tls init",
        "tls renew",
        "tls show",
        "topology plan",
        "trace show",
    }
)


def install(group: click.Group, path: tuple[str, ...] = ()) -> None:
    """Record each command of a group that is in `ACTIONS`; `path` leads to the group."""
    for name, command in group.commands.items():
        names = (*path, name)
        if isinstance(command, click.Group):
            install(command, names)
        if (action := ACTIONS.get(" ".join(names))) and command.callback:
            command.callback = _recorded(".".join(names), action, command.callback)


def _recorded(name: str, action: Action, run: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(run)
    def recorded(**parameters: Any) -> Any:
        if action.flag and not parameters[action.flag]:
            return run(**parameters)
        begun = _entry(name, action, parameters)
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


def _entry(name: str, action: Action, parameters: Mapping[str, Any]) -> Entry:
    details = {each: parameters.get(each) for each in action.details}
    return Entry(
        source=Source.ORDERCTL,
        person=operator_name(),
        action=name,
        service=action.service or parameters.get("service"),
        subject=_text(parameters.get(action.subject or "")),
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
