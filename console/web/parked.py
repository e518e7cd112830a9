"""What is parked, and what the page changes: it is put back on its queue, or deleted."""

import logging
from collections.abc import Callable
from functools import partial

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from console.actions import parked as actions
from console.actions import parked_detail
from console.actions.parked import CONSUMERS
from console.settings import ConsoleSettings
from console.web.answers import Questions, answers
from eventbus.errors import ExpectedError
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

parked = Blueprint("parked", __name__)

#: Messages of each service that are listed.
LIMIT = 100


@parked.get("/parked")
def show() -> str:
    """List what is parked, of each service the oldest first."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    questions: Questions = current_app.extensions["questions"]
    asked = [
        questions.ask(partial(actions.show, settings, service, limit=LIMIT))
        for service in CONSUMERS.values()
    ]
    return render_template(
        "parked.html", listings=dict(zip(CONSUMERS, answers(asked), strict=True)), limit=LIMIT
    )


@parked.get("/parked/<service>/message")
def message(service: str) -> str:
    """Show all of one parked message."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    detail = parked_detail.show(settings, _known(service), request.args.get("id", ""))
    return render_template("message.html", detail=detail)


@parked.get("/parked/<service>/redrive")
def confirm(service: str) -> str:
    """Ask whether to put back one event's message or, without an id, everything."""
    own = _known(service)
    return render_template("redrive.html", service=own, event_id=request.args.get("id", ""))


@parked.post("/parked/<service>/redrive")
def redrive(service: str) -> Response:
    """Put it back, and say on the list what came of it."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    own, event_id = _known(service), request.form.get("id", "")
    every = request.form.get("every") == "yes"
    if every == bool(event_id):
        abort(400, "Name one event, or all of them.")

    def put_back() -> str:
        done = (
            actions.redrive_all(settings, own)
            if every
            else actions.redrive(settings, own, [event_id])
        )
        return f"{done} put back on {own.queue}"

    return _told("a redrive was asked for", own, event_id or "all", put_back)


@parked.get("/parked/<service>/discard")
def confirm_discard(service: str) -> str:
    """Ask whether to delete one event's message, and show it: it is there for the last time."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    detail = parked_detail.show(settings, _known(service), request.args.get("id", ""))
    return render_template("discard.html", detail=detail)


@parked.post("/parked/<service>/discard")
def discard(service: str) -> Response:
    """Delete it for ever, and say so on the list."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    own, event_id = _known(service), request.form.get("id", "")
    if not event_id:
        abort(400, "Name one event.")

    def delete() -> str:
        gone = actions.discard(settings, own, [event_id])
        return f"{len(gone)} deleted for ever, of event {event_id}"

    return _told("a discard was asked for", own, event_id, delete)


def _told(message: str, service: Service, event_id: str, act: Callable[[], str]) -> Response:
    """Do it; what came of it is told on the list, and in the log under this message."""
    try:
        kind, result = "done", act()
    except ExpectedError as error:
        kind, result = "wrong", str(error)
    flash(f"{service.name}: {result}", kind)
    about = {"service": service.name, "event_id": event_id, "result": result}
    log.info(message, extra=about)
    return redirect(url_for("parked.show"), code=303)


def _known(service: str) -> Service:
    if service not in CONSUMERS:
        abort(404, f"There is no parking lot of {service}.")
    return CONSUMERS[service]
