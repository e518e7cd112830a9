"""The pages of the overview: the live map, each service, and the exchange."""

from flask import Blueprint, Response, current_app, render_template

from common.kombu_topology import EVENTS, SERVICES
from console.databases.pauses import CONSUMERS
from console.web.overview.live import PARTS, Live
from eventbus.topology.service import Service

overview = Blueprint("overview", __name__)


@overview.get("/overview")
def show() -> str:
    """Show the state of every source that responds."""
    view = live().view()
    parts = {name: view.parts[name] for name in PARTS}
    return render_template("overview.html", headline=view.snapshot.headline, parts=parts)


@overview.get("/overview/stream")
def stream() -> Response:
    """Send the sections of the overview as they change, as server-sent events."""
    return live().streams.response()


@overview.get("/services/<service>")
def show_service(service: str) -> str | tuple[str, int]:
    """Show one service: its queue, retry tiers, parking lot and outbox; its pause."""
    found = next((each for each in SERVICES if each.name == service), None)
    if found is None:
        text = f"The services are {', '.join(each.name for each in SERVICES)}."
        return render_template("wrong.html", title=f"No service {service}", text=text), 404
    row = live().view().snapshot.row_of(found)
    return render_template("service.html", row=row, can_pause=service in CONSUMERS)


@overview.get("/exchange")
def show_exchange() -> str:
    """Show the types of events, with the services that publish and consume each."""
    types = sorted({type_ for each in SERVICES for type_ in each.published_types})
    routes = [(type_, _names(type_, "published"), _names(type_, "consumed")) for type_ in types]
    return render_template("exchange.html", name=EVENTS.name, routes=routes)


def live() -> Live:
    """Return the overview of this process."""
    found: Live = current_app.extensions["live"]
    return found


def _names(event_type: str, direction: str) -> list[str]:
    def types(service: Service) -> tuple[str, ...]:
        return service.published_types if direction == "published" else service.consumed_types

    return [each.name for each in SERVICES if event_type in types(each)]
