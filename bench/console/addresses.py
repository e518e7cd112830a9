"""The addresses of all pages, derived from the console's routes.

Every route that a browser opens is measured: a new page without parameters is included
automatically, and a new page with parameters must be listed in `ARGUMENTS`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pydantic import SecretStr
from werkzeug.routing import Map, Rule

from console.settings import ConsoleSettings
from console.web.app import create_app
from deploy.local.problem import Problem

#: Routes that are not pages, or that no logged-in operator opens. The event stream has its own
#: figures.
OMITTED = frozenset({"static", "start", "ready", "login.form", "metrics.page", "overview.stream"})

_MESSAGE = {"service": "{service}", "id": "{event}", "digest": "{digest}"}
_LAST = {"service": "{service}", "id": "{last_event}", "digest": "{last_digest}"}
_GROUP = {"type": "{type}", "failure": "{failure}", "frame": "{frame}"}

#: The arguments of each measured page, by endpoint and by title. `{name}` is an example that exists
#: in the measured system, see `examples`.
ARGUMENTS: Mapping[str, Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {
        "overview.show": {"overview": {}},
        "overview.show_service": {"a service": {"service": "{service}"}},
        "pauses.confirm": {"pause a service": {"service": "{service}"}},
        "parked.show": {
            "parked messages": {},
            "parked messages of a group": {"service": "{service}", "group": "{group}"},
            "find a parked message": {"find": "{last_event}"},
        },
        "parked.show_groups": {"failure groups": {}},
        "parked.show_group": {"a failure group": {"service": "{service}", "key": "{group}"}},
        "parked.message": {"oldest parked message": _MESSAGE, "newest parked message": _LAST},
        "parked.show_history": {"history of the newest message": _LAST},
        "parked.confirm": {"redrive a message": _MESSAGE},
        "parked.confirm_discard": {"discard the newest message": _LAST},
        "parked.edit": {"edit the newest message": _LAST},
        "parked.confirm_plan": {"new plan": {"service": "{service}", **_GROUP}},
        "parked.show_plan": {"a plan": {"service": "{service}", "plan_id": "{plan}"}},
        "orders.show": {
            "orders, and stuck orders": {},
            "orders, a later page": {"after": "{after}"},
            "orders of an address": {"find": "{email}"},
            "orders of a status": {"status": "CANCELLED"},
            "orders of a status and a time": {
                "status": "CONFIRMED",
                "since": "{since}",
                "until": "{until}",
            },
            "an order": {"find": "{order}"},
            "a stuck order": {"find": "{stuck}"},
        },
        "orders.confirm_cancel": {"cancel an order": {"order_id": "{stuck}"}},
        "orders.confirm_ship": {"ship an order": {"order_id": "{order}"}},
        "stock.show": {"stock": {}, "stock of a SKU": {"sku": "{sku}"}},
        "analytics.show": {
            "analytics, an hour": {},
            "analytics, a week": {"span": "week"},
        },
        "audit.show": {"audit log": {}, "audit log of a person": {"person": "{person}"}},
    }
)


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page by its title; `path` includes the query string."""

    title: str
    path: str


def routes(ca_file: Path) -> Map:
    """Return the routes of the console; no server is accessed."""
    unused = SecretStr("unused-but-long-enough")
    settings = ConsoleSettings(
        broker_admin_url="https://127.0.0.1",
        broker_admin_user="unused",
        broker_admin_password=unused,
        broker_ca_file=ca_file,
        database_ca_file=ca_file,
        console_password=unused,
        console_database_password=unused,
    )
    return create_app(settings).url_map


def pages(routes: Map, examples: Mapping[str, str]) -> Iterator[Page]:
    """Yield every page. Raises `Problem` for a route with parameters that is not listed."""
    urls = routes.bind("console")
    for rule in _opened(routes):
        listed = ARGUMENTS.get(rule.endpoint)
        if listed is None and rule.arguments:
            raise Problem(f"{rule.rule} is not measured: add {rule.endpoint} to ARGUMENTS")
        for title, arguments in (listed or {rule.rule.strip("/"): {}}).items():
            values = {name: value.format_map(examples) for name, value in arguments.items()}
            yield Page(title=title, path=urls.build(rule.endpoint, values))


def _opened(routes: Map) -> Iterator[Rule]:
    for rule in routes.iter_rules():
        if "GET" in (rule.methods or ()) and rule.endpoint not in OMITTED:
            yield rule
