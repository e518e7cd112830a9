"""The pages to redrive or discard parked messages. `console.web.parking` has the other pages."""

from collections.abc import Callable, Mapping
from functools import partial

from flask import Blueprint, abort, current_app, render_template, request, url_for
from werkzeug.wrappers import Response

from console.actions import parked as actions
from console.actions import parked_detail
from console.actions.parked import CONSUMERS
from console.operator_text import REASON_LIMIT
from console.parking import discards, journal
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import act, entered_reason
from console.web.orders import origin
from console.web.queries import Queries, results
from eventbus.topology.service import Service

parked = Blueprint("parked", __name__)

#: Maximum number of messages of each service that are listed.
LIMIT = 100


@parked.get("/parked")
def show() -> str:
    """List the oldest parked messages of each service."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    futures = [
        queries.start(partial(actions.show, settings, service, limit=LIMIT))
        for service in CONSUMERS.values()
    ]
    return render_template(
        "parked.html", listings=dict(zip(CONSUMERS, results(futures), strict=True)), limit=LIMIT
    )


@parked.get("/parked/<service>/message")
def message(service: str) -> str:
    """Show one parked message in full."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    detail = parked_detail.show(
        settings, consumer_of(service), request.args.get("id", ""), request.args.get("digest", "")
    )
    return render_template("message.html", detail=detail)


@parked.get("/parked/<service>/redrive")
def confirm(service: str) -> str:
    """Ask for confirmation to redrive one event's message."""
    return render_template(
        "redrive.html",
        service=consumer_of(service),
        event_id=_event_id(request.args),
        digest=request.args.get("digest", ""),
        origin=origin.entered(),
    )


@parked.post("/parked/<service>/redrive")
def redrive(service: str) -> Response:
    """Redrive one message, and show the result on the page of orders or on the list."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer, event_id = consumer_of(service), _event_id(request.form)
    digest = request.form.get("digest") or None

    def put_back() -> str:
        done = actions.redrive(settings, consumer, [event_id], digest=digest)
        by = login.person().name
        problem = journal.record_redrives(settings, consumer, [event_id], by=by)
        return "; ".join(filter(None, (f"{done} redriven to {consumer.queue}", problem)))

    return act_on("redrive requested", consumer, event_id, put_back)


@parked.get("/parked/<service>/discard")
def confirm_discard(service: str) -> str:
    """Ask for the reason to discard one event's message, and show the message."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    detail = parked_detail.show(
        settings, consumer_of(service), request.args.get("id", ""), request.args.get("digest", "")
    )
    return render_template("discard.html", detail=detail, limit=REASON_LIMIT, settings=settings)


@parked.post("/parked/<service>/discard")
def discard(service: str) -> Response:
    """Discard one event's messages with the body that was shown, and show the result."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer, event_id = consumer_of(service), request.form.get("id", "")
    digest = request.form.get("digest", "")
    if not (event_id and digest):
        abort(400, "Specify one event, and the digest of its message.")
    reason = entered_reason()

    def take_out() -> str:
        done = discards.discard(
            settings,
            consumer,
            [event_id],
            digest=digest,
            reason=reason,
            discarded_by=login.person().name,
        )
        numbers = ", ".join(str(one.id) for one in done)
        return f"{len(done)} discarded, of event {event_id}, kept as {numbers}"

    return act_on("discard requested", consumer, event_id, take_out)


def act_on(message: str, service: Service, event_id: str, action: Callable[[], str]) -> Response:
    """Change a message, and show the result on the page of orders it came from, or on the list."""
    return act(
        message,
        action,
        subject=service.name,
        page=origin.page() or url_for("parked.show"),
        service=service.name,
        event_id=event_id,
    )


def consumer_of(service: str) -> Service:
    """Return the service of this name; without a parking lot, the response is 404."""
    if service not in CONSUMERS:
        abort(404, f"Service {service} has no parking lot.")
    return CONSUMERS[service]


def _event_id(fields: Mapping[str, str]) -> str:
    return fields.get("id") or abort(400, "Specify one event.")
