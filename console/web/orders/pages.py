"""The routes of orders: the list, one order, and the address of its customer."""

import logging
from concurrent.futures import Future
from functools import partial
from typing import Any
from uuid import UUID

from flask import Blueprint, current_app, render_template, request

from console.actions import order, trace
from console.actions.order import Story
from console.errors import ActionError
from console.ledger.books import Books
from console.orders import listing, places, stuck
from console.orders.flow import flow
from console.orders.listing import Page
from console.orders.stuck import OLDER_THAN, Report
from console.settings import ConsoleSettings
from console.web.orders import drawing
from console.web.orders.form import Form
from console.web.orders.traces import traces
from console.web.queries import Latest, Queries, Result, results
from order_app.domain import Status
from order_app.storage.search import Criteria
from order_app.use_cases import UnknownOrder
from span_store.models import SpanRow

log = logging.getLogger(__name__)

orders = Blueprint("orders", __name__)

#: Maximum number of orders on a page.
LIMIT = 50

#: Seconds for which the stuck orders of one search are shown, so that viewers share the search.
RECENT = 5.0


def recent() -> Latest[Report]:
    """Return a cache for the stuck orders that were found last."""
    return Latest(RECENT)


@orders.get("/orders")
def show() -> tuple[str, int]:
    """Show the orders that meet the criteria or, if an id is entered, that order."""
    form = Form.of(request.args)
    return _one(form) if form.is_order else _list(form)


@orders.post("/orders/reveal")
def reveal() -> tuple[str, int]:
    """Show an order with the address of its customer, and log that it was shown."""
    return _one(Form.of(request.form), is_revealed=True)


def _list(form: Form) -> tuple[str, int]:
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    latest: Latest[Report] = current_app.extensions["stuck"]
    books: Books = current_app.extensions["books"]
    after = request.args.get("after", "")
    try:
        criteria = form.criteria()
    except ActionError as error:
        return _listed(form, Result(problem=str(error))), 400
    futures: list[Future[Any]] = [queries.start(partial(_page, settings, criteria, after))]
    # A search of queues takes a second, so not every page of a list includes one.
    if form.is_empty and not after:
        futures.append(queries.start(partial(latest.get, partial(stuck.find, settings, books))))
    page, *report = results(futures)
    return _listed(form, page, *report), 200


def _listed(form: Form, page: Result[Page], report: Result[Report] | None = None) -> str:
    return render_template(
        "orders.html",
        form=form,
        page=page,
        stuck=report,
        statuses=tuple(Status),
        older_than=OLDER_THAN.total_seconds(),
    )


def _one(form: Form, *, is_revealed: bool = False) -> tuple[str, int]:
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    books: Books = current_app.extensions["books"]
    try:
        order_id = form.order_id()
    except ActionError as error:
        return render_template("order.html", wanted=form.find, order_problem=str(error)), 400
    futures: list[Future[Any]] = [
        queries.start(partial(_story, settings, order_id)),
        queries.start(partial(_spans, settings, order_id)),
        queries.start(partial(places.follow, settings, books, order_id)),
    ]
    story, spans, found = results(futures)
    if is_revealed and story.value:
        log.info("address revealed", extra={"order_id": str(order_id)})
    steps = (
        flow(story.value.order.created_at, found.value.deliveries, spans.value or ())
        if story.value and found.value
        else None
    )
    page = render_template(
        "order.html",
        wanted=str(order_id),
        story=story.value,
        order_problem=story.problem,
        is_revealed=is_revealed,
        found=found,
        flow=drawing.draw(steps) if steps else None,
        described=drawing.described,
        traces=traces(spans.value or ()),
        trace_problem=spans.problem,
        is_unknown=not (story.value or spans.value or story.problem or spans.problem),
    )
    return page, 200


def _page(settings: ConsoleSettings, criteria: Criteria, after: str) -> Page:
    return listing.page(settings, criteria, limit=LIMIT, after=after)


def _story(settings: ConsoleSettings, order_id: UUID) -> Story | None:
    try:
        return order.show(settings, order_id)
    except UnknownOrder:
        return None


def _spans(settings: ConsoleSettings, order_id: UUID) -> list[SpanRow]:
    try:
        return trace.find(settings, str(order_id))
    except ActionError:
        return []
