"""The cancellation and the shipment of an order: a page for each, and the two actions."""

import logging
from collections.abc import Callable
from uuid import UUID

from flask import current_app, flash, redirect, render_template, url_for
from werkzeug.wrappers import Response

from console.orders.order_api import NotChanged, OrderApi
from console.settings import ConsoleSettings
from console.web.access import login
from console.web.action import entered_reason
from console.web.orders.pages import orders
from order_app.http.requests import REASON_LIMIT

log = logging.getLogger(__name__)

#: A response: a page with its status, or a redirect.
Answer = tuple[str, int] | Response


@orders.get("/orders/<uuid:order_id>/cancel")
def confirm_cancel(order_id: UUID) -> str:
    """Ask for the reason to cancel an order."""
    return _page("cancel", order_id)


@orders.post("/orders/<uuid:order_id>/cancel")
def cancel(order_id: UUID) -> Answer:
    """Cancel an order, and show it; if it is not cancelled, show the form with the reason again."""
    reason = entered_reason(REASON_LIMIT)

    def change(api: OrderApi, operator: str) -> str:
        return api.cancel(order_id, reason=reason, operator=operator)

    return _act("cancel", order_id, change, reason=reason)


@orders.get("/orders/<uuid:order_id>/ship")
def confirm_ship(order_id: UUID) -> str:
    """Ask for confirmation that the goods of an order have left."""
    return _page("ship", order_id)


@orders.post("/orders/<uuid:order_id>/ship")
def ship(order_id: UUID) -> Answer:
    """Mark an order as shipped, and show it."""

    def change(api: OrderApi, operator: str) -> str:
        return api.ship(order_id, operator=operator)

    return _act("ship", order_id, change)


def _page(action: str, order_id: UUID, *, reason: str = "") -> str:
    return render_template(
        "decision.html", action=action, order_id=order_id, reason=reason, limit=REASON_LIMIT
    )


def _act(
    action: str, order_id: UUID, change: Callable[[OrderApi, str], str], *, reason: str = ""
) -> Answer:
    settings: ConsoleSettings = current_app.extensions["settings"]
    fields = {"action": action, "order_id": str(order_id)}
    try:
        with OrderApi(settings) as api:
            status = change(api, login.person().name)
    except NotChanged as error:
        flash(str(error), "wrong")
        log.warning("order not changed", extra=fields | {"reason": str(error)})
        # The form contains the reason, so that it can be sent again.
        return _page(action, order_id, reason=reason), error.status
    flash(f"Order {order_id}: {status}", "done")
    log.info("order changed", extra=fields | {"status": status})
    return redirect(url_for("orders.show", id=order_id), code=303)
