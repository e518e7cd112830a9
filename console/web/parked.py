"""What is parked, and the one thing that the page changes: it is put back on its queue."""

import logging
from functools import partial

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from common.errors import OrderSystemError
from common.kombu_topology import Service
from console.actions import parked as actions
from console.actions import parked_detail
from console.actions.parked import CONSUMERS
from console.settings import ConsoleSettings
from console.web.answers import Questions, answers

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
    try:
        done = (
            actions.redrive_all(settings, own)
            if every
            else actions.redrive(settings, own, [event_id])
        )
        kind, result = "done", f"{done} put back on {own.queue}"
    except OrderSystemError as error:
        kind, result = "wrong", str(error)
    flash(f"{own.name}: {result}", kind)
    about = {"service": own.name, "event_id": event_id or "all", "result": result}
    log.info("a redrive was asked for", extra=about)
    return redirect(url_for("parked.show"), code=303)


def _known(service: str) -> Service:
    if service not in CONSUMERS:
        abort(404, f"There is no parking lot of {service}.")
    return CONSUMERS[service]
