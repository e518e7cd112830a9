"""Pausing and resuming a service, and the page with the form for the reason."""

import logging
from collections.abc import Callable

from flask import Blueprint, abort, current_app, flash, redirect, render_template, request, url_for
from sqlalchemy.exc import DBAPIError
from werkzeug.wrappers import Response

from console.databases import pauses as actions
from console.errors import problem
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.orders import origin
from console.web.overview.pages import live
from console.web.parked import consumer_of
from eventbus.errors import ExpectedError
from eventbus.topology.service import Service

log = logging.getLogger(__name__)

pauses = Blueprint("pauses", __name__)


@pauses.get("/services/<service>/pause")
def confirm(service: str) -> str:
    """Ask for the reason to pause a service."""
    return render_template("pause.html", service=consumer_of(service), limit=actions.REASON_LIMIT)


@pauses.post("/services/<service>/pause")
def begin(service: str) -> Response:
    """Pause a service, and show the result on the overview."""
    reason = request.form.get("reason", "")
    if refused := actions.refusal(reason):
        abort(400, f"The reason {refused}.")

    def pause(settings: ConsoleSettings, consumer: Service) -> str:
        by = login.person().name
        earlier = actions.begin(settings, consumer, reason=reason, operator=by)
        return f"already paused by {earlier.paused_by}" if earlier else "paused"

    return _act(service, pause)


@pauses.post("/services/<service>/resume")
def end(service: str) -> Response:
    """Resume a service, and show the result on the page of orders it came from, or the overview."""

    def resume(settings: ConsoleSettings, consumer: Service) -> str:
        return "resumed" if actions.end(settings, consumer) else "not paused"

    return _act(service, resume)


def _act(service: str, action: Callable[[ConsoleSettings, Service], str]) -> Response:
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer = consumer_of(service)
    try:
        kind, result = "done", action(settings, consumer)
    except (ExpectedError, DBAPIError) as error:
        kind, result = "wrong", problem(error)
    live().expire()
    flash(f"{service}: {result}", kind)
    log.info("consumption changed", extra={"service": service, "result": result})
    return redirect(origin.page() or url_for("overview.show"), code=303)
