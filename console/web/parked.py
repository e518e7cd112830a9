"""The pages of parked messages, to redrive or to discard; `console.web.parking` has the others."""

import logging
from collections.abc import Callable
from functools import partial

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from console.actions import parked as actions
from console.actions import parked_detail
from console.actions.parked import CONSUMERS
from console.parking import discards, journal
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.orders import origin
from console.web.queries import Queries, results
from eventbus.errors import ExpectedError
from eventbus.messaging.untrusted import storable
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

parked = Blueprint("parked", __name__)

#: Messages of each service that are listed.
LIMIT = 100

#: Characters of the reason of a discard.
REASON_LIMIT = 500


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
    """Ask for confirmation to redrive one event's message or, without an id, all messages."""
    consumer = consumer_of(service)
    event_id, digest = request.args.get("id", ""), request.args.get("digest", "")
    return render_template(
        "redrive.html",
        service=consumer,
        event_id=event_id,
        digest=digest,
        origin=origin.entered(),
    )


@parked.post("/parked/<service>/redrive")
def redrive(service: str) -> Response:
    """Redrive one message or all, and show the result on the page of orders or on the list."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer, event_id = consumer_of(service), request.form.get("id", "")
    digest = request.form.get("digest") or None
    every = request.form.get("every") == "yes"
    if every == bool(event_id):
        abort(400, "Specify one event, or all of them.")

    def put_back() -> str:
        if every:
            return f"{actions.redrive_all(settings, consumer)} redriven to {consumer.queue}"
        done = actions.redrive(settings, consumer, [event_id], digest=digest)
        by = login.person().name
        problem = journal.record_redrives(settings, consumer, [event_id], by=by)
        return "; ".join(filter(None, (f"{done} redriven to {consumer.queue}", problem)))

    return act("redrive requested", consumer, event_id or "all", put_back, page=origin.page())


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
    reason = request.form.get("reason", "").strip()
    digest = request.form.get("digest", "")
    if not (event_id and digest):
        abort(400, "Specify one event, and the digest of its message.")
    if not 0 < len(reason) <= REASON_LIMIT:
        abort(400, f"Specify a reason of at most {REASON_LIMIT} characters.")

    def take_out() -> str:
        done = discards.discard(
            settings,
            consumer,
            [event_id],
            digest=digest,
            reason=storable(reason),
            discarded_by=login.person().name,
        )
        numbers = ", ".join(str(one.id) for one in done)
        return f"{len(done)} discarded, of event {event_id}, kept as {numbers}"

    return act("discard requested", consumer, event_id, take_out)


def act(
    message: str,
    service: Service,
    event_id: str,
    action: Callable[[], str],
    *,
    page: str | None = None,
) -> Response:
    """Run an action, log its result under `message`, and show it on a page, by default the list."""
    try:
        kind, result = "done", action()
    except ExpectedError as error:
        kind, result = "wrong", str(error)
    flash(f"{service.name}: {result}", kind)
    fields = {"service": service.name, "event_id": event_id, "result": result}
    log.info(message, extra=fields)
    return redirect(page or url_for("parked.show"), code=303)


def consumer_of(service: str) -> Service:
    """Return the service of this name; without a parking lot, the response is 404."""
    if service not in CONSUMERS:
        abort(404, f"Service {service} has no parking lot.")
    return CONSUMERS[service]
