"""The pages to redrive or discard parked messages. `console.web.parking` has the other pages."""

import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TypeVar

from flask import Blueprint, abort, current_app, render_template, request, url_for
from werkzeug.wrappers import Response

from console.actions import parked as actions
from console.actions import parked_detail
from console.actions.parked import CONSUMERS
from console.actions.parked_detail import Detail
from console.errors import ActionError
from console.operator_text import REASON_LIMIT
from console.parking import discards, journal
from console.parking.index.reading import LARGE
from console.parking.selection import Selection
from console.settings import ConsoleSettings
from console.web.access import login, recording
from console.web.action import act, entered_reason
from console.web.orders import origin
from console.web.parking.changes import Change, Changes
from console.web.parking.indexing import Indexing
from console.web.queries import Queries, results
from eventbus.topology.service import Service

T = TypeVar("T")

log = logging.getLogger(__name__)

parked = Blueprint("parked", __name__)

#: Maximum number of messages of each service that are listed.
LIMIT = 100


@parked.get("/parked")
def show() -> str:
    """List the oldest parked messages of each service, or of one, that are selected."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    queries: Queries = current_app.extensions["queries"]
    changes: Changes = current_app.extensions["changes"]
    selection = Selection(
        find=request.args.get("find", "").strip(),
        group=request.args.get("group", ""),
        after=request.args.get("after", 0, type=_row),
    )
    name = request.args.get("service", "")
    services = [consumer_of(name)] if name else list(CONSUMERS.values())
    futures = [
        queries.start(partial(actions.listed, settings, service, selection, limit=LIMIT))
        for service in services
    ]
    listings = dict(zip([each.name for each in services], results(futures), strict=True))
    start_indexing(each.value.depth for each in listings.values() if each.value)
    return render_template(
        "parked.html",
        listings=listings,
        limit=LIMIT,
        changes=changes.late,
        selection=selection,
        only=name,
    )


@parked.get("/parked/<service>/message")
def message(service: str) -> str:
    """Show one parked message in full."""
    return render_template("message.html", detail=_detail(consumer_of(service)))


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
    digest, by = request.form.get("digest") or None, login.person().name

    def put_back() -> str:
        done = actions.redrive(settings, consumer, [event_id], digest=digest)
        problem = journal.record_redrives(settings, consumer, [event_id], by=by)
        return "; ".join(filter(None, (f"{done} redriven to {consumer.queue}", problem)))

    return act_on("redrive requested", consumer, event_id, put_back)


@parked.get("/parked/<service>/discard")
def confirm_discard(service: str) -> str:
    """Ask for the reason to discard one event's message, and show the message."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    detail = _detail(consumer_of(service))
    return render_template("discard.html", detail=detail, limit=REASON_LIMIT, settings=settings)


@parked.post("/parked/<service>/discard")
def discard(service: str) -> Response:
    """Discard one event's messages with the body that was shown, and show the result."""
    settings: ConsoleSettings = current_app.extensions["settings"]
    consumer, event_id = consumer_of(service), request.form.get("id", "")
    digest = request.form.get("digest", "")
    if not (event_id and digest):
        abort(400, "Specify one event, and the digest of its message.")
    reason, by = entered_reason(), login.person().name

    def take_out() -> str:
        done = discards.discard(
            settings,
            consumer,
            [event_id],
            digest=digest,
            reason=reason,
            discarded_by=by,
        )
        numbers = ", ".join(str(one.id) for one in done)
        return f"{len(done)} discarded, of event {event_id}, kept as {numbers}"

    return act_on("discard requested", consumer, event_id, take_out)


def act_on(message: str, service: Service, event_id: str, action: Callable[[], str]) -> Response:
    """Change a message, and show the result on the page of orders it came from, or on the list.

    An action that takes longer than a page continues, and the list shows its result. It runs in
    another thread, which has no request.
    """
    changes: Changes = current_app.extensions["changes"]
    fields = {"service": service.name, "event_id": event_id}
    change = Change(
        service=service.name,
        event_id=event_id,
        what=message.partition(" ")[0],
        by=login.person().name,
    )
    digest, record = request.form.get("digest", ""), recording.later()

    def late(kind: str, result: str) -> None:
        log.info(message, extra=fields | {"result": result})
        record(kind, result)

    return act(
        message,
        lambda: changes.make(service, change, digest, action, late),
        subject=service.name,
        page=origin.page() or url_for("parked.show"),
        **fields,
    )


def in_time(query: Callable[[], T]) -> T:
    """Return the result of a query. Raises `ActionError` if it fails or takes longer than a page.

    A parking lot that is not indexed yet is read, and may be large.
    """
    queries: Queries = current_app.extensions["queries"]
    (result,) = results([future := queries.start(query)])
    if result.problem:
        if not future.done():
            _index()
        raise ActionError(result.problem)
    return result.value  # type: ignore[return-value]


def start_indexing(depths: Iterable[int]) -> None:
    """Start the index, if one of the parking lots with these numbers of messages is large."""
    if any(depth > LARGE for depth in depths):
        _index()


def consumer_of(service: str) -> Service:
    """Return the service of this name; without a parking lot, the response is 404."""
    if service not in CONSUMERS:
        abort(404, f"Service {service} has no parking lot.")
    return CONSUMERS[service]


def _row(text: str) -> int:
    """Return the number of a row, limited to the largest that PostgreSQL can compare."""
    return min(max(int(text), 0), 2**63 - 1)


def _detail(consumer: Service) -> Detail:
    settings: ConsoleSettings = current_app.extensions["settings"]
    event_id, digest = request.args.get("id", ""), request.args.get("digest", "")
    return in_time(partial(parked_detail.show, settings, consumer, event_id, digest))


def _index() -> None:
    indexing: Indexing = current_app.extensions["indexing"]
    indexing.start()


def _event_id(fields: Mapping[str, str]) -> str:
    return fields.get("id") or abort(400, "Specify one event.")
