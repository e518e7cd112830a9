"""Pausing and resuming a service, and the page with the form for the reason."""

from collections.abc import Callable

from flask import Blueprint, current_app, render_template, url_for
from werkzeug.wrappers import Response

from console.databases import pauses as actions
from console.operator_text import REASON_LIMIT
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import act, entered_reason
from console.web.orders import origin
from console.web.overview.pages import live
from console.web.parked import consumer_of
from eventbus.topology.service import Service

pauses = Blueprint("pauses", __name__)


@pauses.get("/services/<service>/pause")
def confirm(service: str) -> str:
    """Ask for the reason to pause a service."""
    return render_template("pause.html", service=consumer_of(service), limit=REASON_LIMIT)


@pauses.post("/services/<service>/pause")
def begin(service: str) -> Response:
    """Pause a service, and show the result on the overview."""
    reason = entered_reason()

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
    response = act(
        "consumption changed",
        lambda: action(settings, consumer),
        subject=service,
        page=origin.page() or url_for("overview.show"),
        service=service,
    )
    live().expire()
    return response
