"""The pages of the overview: the live map, each service, and the exchange."""

from flask import Blueprint, Response, abort, current_app, render_template

from common.kombu_topology import EVENTS, SERVICES
from console.databases.pauses import CONSUMERS
from console.web.overview.live import Live

overview = Blueprint("overview", __name__)


@overview.get("/overview")
def show() -> str:
    """Show the state of every source that responds."""
    view = live().view()
    return render_template("overview.html", headline=view.snapshot.headline, parts=view.parts)


@overview.get("/overview/stream")
def stream() -> Response:
    """Send the sections of the overview as they change, as server-sent events."""
    return live().streams.response()


@overview.get("/services/<service>")
def show_service(service: str) -> str:
    """Show one service: its queue, retry tiers, parking lot, outbox and pause."""
    found = next((each for each in SERVICES if each.name == service), None)
    if found is None:
        abort(404, f"The services are {', '.join(each.name for each in SERVICES)}.")
    row = live().view().snapshot.row_of(found)
    return render_template("service.html", row=row, can_pause=service in CONSUMERS)


@overview.get("/exchange")
def show_exchange() -> str:
    """Show the types of events, with the services that publish and consume each."""
    types = sorted({type_ for each in SERVICES for type_ in each.published_types})
    routes = [
        (
            type_,
            [each.name for each in SERVICES if type_ in each.published_types],
            [each.name for each in SERVICES if type_ in each.consumed_types],
        )
        for type_ in types
    ]
    return render_template("exchange.html", name=EVENTS.name, routes=routes)


def live() -> Live:
    """Return the overview of this process."""
    found: Live = current_app.extensions["live"]
    return found
