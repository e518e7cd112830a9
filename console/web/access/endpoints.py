"""The right that each endpoint requires. Every endpoint with a side effect must be listed."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from flask import Flask, g, request

from console.access.rights import Person, Right
from console.web.csrf import CHANGING


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The right that an endpoint requires, or None if every person may use the endpoint.

    `service` is the service on which the endpoint acts. The default is the service in its URL, if
    any.
    """

    right: Right | None
    service: str | None = None

    @property
    def target(self) -> str | None:
        """The service on which the current request acts."""
        return self.service or (request.view_args or {}).get("service")

    def admits(self, person: Person, service: str | None) -> bool:
        """Return whether a person has the right, on a service if the endpoint acts on one."""
        return self.right is None or person.may(self.right, self.service or service)


#: Rules by endpoint. Any other endpoint only shows data, and every person may use it.
RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "login.enter": Rule(right=None),
        "login.leave": Rule(right=None),
        "orders.reveal": Rule(right=Right.REVEAL, service="order"),
        "orders.confirm_cancel": Rule(right=Right.CANCEL, service="order"),
        "orders.cancel": Rule(right=Right.CANCEL, service="order"),
        "orders.confirm_ship": Rule(right=Right.SHIP, service="order"),
        "orders.ship": Rule(right=Right.SHIP, service="order"),
        "parked.confirm": Rule(right=Right.REDRIVE),
        "parked.redrive": Rule(right=Right.REDRIVE),
        "parked.confirm_discard": Rule(right=Right.DISCARD),
        "parked.discard": Rule(right=Right.DISCARD),
        "parked.edit": Rule(right=Right.EDIT),
        "parked.preview_edit": Rule(right=Right.EDIT),
        "parked.confirm_edit": Rule(right=Right.EDIT),
        "parked.confirm_plan": Rule(right=Right.REDRIVE),
        "parked.make_plan": Rule(right=Right.REDRIVE),
        "parked.run_plan": Rule(right=Right.REDRIVE),
        "parked.pause_plan": Rule(right=Right.REDRIVE),
        "parked.abort_plan": Rule(right=Right.REDRIVE),
        "parked.note": Rule(right=Right.TRIAGE),
        "parked.assign": Rule(right=Right.TRIAGE),
        "parked.mute": Rule(right=Right.TRIAGE),
        "pauses.confirm": Rule(right=Right.PAUSE),
        "pauses.begin": Rule(right=Right.PAUSE),
        "pauses.end": Rule(right=Right.PAUSE),
        "people.show": Rule(right=Right.PEOPLE),
        "people.disable": Rule(right=Right.PEOPLE),
        "audit.show": Rule(right=Right.AUDIT),
    }
)

#: The rule of an endpoint that only shows data.
_SHOWS = Rule(right=None)


def install(app: Flask) -> None:
    """Make `may` available in templates, which show only what the person may use.

    Must be called after all routes are registered. Raises `RuntimeError` if an endpoint with a side
    effect has no rule.
    """
    changing = {
        rule.endpoint for rule in app.url_map.iter_rules() if CHANGING & set(rule.methods or ())
    }
    if unknown := sorted(changing - set(RULES)):
        raise RuntimeError(f"{__name__} has no rule for {', '.join(unknown)}")
    app.jinja_env.globals["may"] = may


def rule() -> Rule:
    """Return the rule of the current request."""
    return RULES.get(request.endpoint or "", _SHOWS)


def may(endpoint: str, service: str | None = None) -> bool:
    """Return whether the person of the current request may use an endpoint, on a service."""
    person: Person | None = g.get("person")
    return person is not None and RULES.get(endpoint, _SHOWS).admits(person, service)


def refusal(person: Person) -> str | None:
    """Return why a person may not make the current request, or None."""
    required = rule()
    if required.admits(person, required.target):
        return None
    on_service = f" on the service {required.target}" if required.target else ""
    services = f", limited to {', '.join(person.services)}" if person.services else ""
    return (
        f"This requires the right “{required.right}”{on_service}. {person.name} is logged in as"
        f" {person.role}{services}. An administrator can change this: orderctl people role."
    )
