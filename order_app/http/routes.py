"""The routes of the orders API, each of which validates a request and calls a use case."""

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response, current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from order_app import use_cases
from order_app.domain import Order, Reason
from order_app.events import Cause
from order_app.http import access, client_address
from order_app.http.problems import Refusal, responses
from order_app.http.requests import (
    NewOrder,
    OperatorCancellation,
    OperatorShipment,
    OrderPath,
    OrderQuery,
    PlacingHeaders,
)
from order_app.http.responses import OrderPage, OrderResponse, Timeline
from order_app.http.validation import validated
from order_app.settings import ApiSettings
from order_app.storage import group_commit, pages
from order_app.storage.idempotency import KeyReused
from order_app.storage.intake import Placing
from order_app.storage.models import db
from order_app.storage.timeline import timeline

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_S = HTTPStatus

orders = APIBlueprint(
    "orders",
    __name__,
    url_prefix="/orders",
    abp_tags=[Tag(name="orders", description="Place, read, ship and cancel orders.")],
    abp_responses=responses({}, _S.UNPROCESSABLE_ENTITY, _S.SERVICE_UNAVAILABLE),
    operation_id_callback=lambda *, name, **_: name,
)

#: The problems of a request with a body.
_WITH_BODY = (
    _S.BAD_REQUEST,
    _S.REQUEST_TIMEOUT,
    _S.REQUEST_ENTITY_TOO_LARGE,
    _S.UNSUPPORTED_MEDIA_TYPE,
)

_PLACED = {
    "description": "The order, PENDING until the inventory has replied.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OrderResponse"}}},
    "headers": {
        "Location": {"description": "The path of the order.", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` if an earlier request with this key placed the order.",
            "schema": {"type": "string", "enum": ["true"]},
        },
    },
}


@orders.post(
    "",
    responses=responses({201: _PLACED}, *_WITH_BODY),
)
@validated
def place_order(header: PlacingHeaders, body: NewOrder) -> Response:
    """Place an order.

    The order is accepted immediately, as PENDING. Read it again to obtain the decision.
    """
    settings: ApiSettings = current_app.extensions["order_settings"]
    _check_currency(body.currency, settings.order_currencies)
    placing = use_cases.new_order(
        body.placement(),
        deadline=timedelta(seconds=settings.order_deadline),
        cause=Cause(traceparent=g.traceparent, client_ip=client_address.of(request)),
        api_keys=access.client().of_client,
        key=header.idempotency_key,
        created_as=settings.order_created_types[-1],
    )
    headers = {}
    order = group_commit.of(current_app).place(placing)
    if order is None:
        order, headers = _placed_before(placing), {"Idempotency-Replayed": "true"}
    g.order_id = order.id
    headers["Location"] = f"{request.root_path}{request.path}/{order.id}"
    return _json(OrderResponse.of(order), _S.CREATED, headers)


@orders.get("", responses={200: OrderPage})
def list_orders(query: OrderQuery) -> Response:
    """List orders, newest first.

    A page may contain fewer orders than `limit`, or none. Only a `next_cursor` of null marks the
    last page.
    """
    _refuse_repeated_parameters()
    with db.session.begin():
        page = pages.page(
            db.session(),
            limit=query.limit,
            after=query.cursor,
            status=query.status,
            customer_email=query.email,
        )
    return _json(OrderPage.of(page))


@orders.get("/<order_id>", responses=responses({200: OrderResponse}, _S.NOT_FOUND))
def get_order(path: OrderPath) -> Response:
    """Return an order."""
    with db.session.begin():
        order = use_cases.get(db.session(), path.order_id)
    return _json(OrderResponse.of(order))


@orders.post(
    "/<order_id>/cancel",
    responses=responses({200: OrderResponse}, _S.NOT_FOUND, _S.CONFLICT),
)
def cancel_order(path: OrderPath) -> Response:
    """Cancel an order for its customer.

    The order must be PENDING or CONFIRMED. Cancelling it again has no effect. If the order is
    SHIPPED, or cancelled for another reason, the response is 409.
    """
    with db.session.begin():
        order = use_cases.cancel(
            db.session(),
            path.order_id,
            Reason.CUSTOMER,
            cause=Cause(traceparent=g.traceparent),
        )
    g.order_id = order.id
    if problem := use_cases.why_not_cancelled(order, Reason.CUSTOMER):
        raise Refusal(_S.CONFLICT, problem)
    return _json(OrderResponse.of(order))


@orders.post(
    "/<order_id>/ship",
    responses=responses({200: OrderResponse}, _S.NOT_FOUND, _S.CONFLICT),
)
def ship_order(path: OrderPath) -> Response:
    """Mark an order as SHIPPED: its goods have left the warehouse.

    The order must be CONFIRMED. Shipping it again has no effect. If the order is PENDING or
    CANCELLED, the response is 409.
    """
    with db.session.begin():
        order = use_cases.ship(db.session(), path.order_id, cause=Cause(traceparent=g.traceparent))
    g.order_id = order.id
    if problem := use_cases.why_not_shipped(order):
        raise Refusal(_S.CONFLICT, problem)
    return _json(OrderResponse.of(order))


@orders.put(
    "/<order_id>/cancellation",
    responses=responses({200: OrderResponse}, *_WITH_BODY, _S.NOT_FOUND, _S.CONFLICT),
)
def cancel_order_as_operator(path: OrderPath, body: OperatorCancellation) -> Response:
    """Cancel an order as an operator, whose name and reason are stored with the order.

    The order must be PENDING or CONFIRMED. If an operator has cancelled it before, the request has
    no effect, and the first reason is kept. If the order is SHIPPED, or cancelled for another
    reason, the response is 409.
    """
    with db.session.begin():
        order = use_cases.cancel_as_operator(
            db.session(), path.order_id, reason=body.reason, operator=body.operator
        )
    g.order_id = order.id
    if problem := use_cases.why_not_cancelled(order, Reason.OPERATOR):
        raise Refusal(_S.CONFLICT, problem)
    return _json(OrderResponse.of(order))


@orders.put(
    "/<order_id>/shipment",
    responses=responses({200: OrderResponse}, *_WITH_BODY, _S.NOT_FOUND, _S.CONFLICT),
)
def ship_order_as_operator(path: OrderPath, body: OperatorShipment) -> Response:
    """Mark an order as SHIPPED as an operator, whose name is stored with the order.

    The order must be CONFIRMED. If the order is SHIPPED already, the request has no effect. If it
    is PENDING or CANCELLED, the response is 409.
    """
    with db.session.begin():
        order = use_cases.ship_as_operator(db.session(), path.order_id, operator=body.operator)
    g.order_id = order.id
    if problem := use_cases.why_not_shipped(order):
        raise Refusal(_S.CONFLICT, problem)
    return _json(OrderResponse.of(order))


@orders.get("/<order_id>/timeline", responses=responses({200: Timeline}, _S.NOT_FOUND))
def get_timeline(path: OrderPath) -> Response:
    """Return the events of an order that the order service has published or handled."""
    with db.session.begin():
        entries = timeline(db.session(), path.order_id)
    return _json(Timeline.of(path.order_id, entries))


def _placed_before(placing: Placing) -> Order:
    claim = placing.claim
    assert claim is not None  # noqa: S101  # without a key, an order is always placed
    try:
        with db.session.begin():
            return use_cases.placed_before(db.session(), claim)
    except KeyReused as error:
        raise Refusal(_S.UNPROCESSABLE_ENTITY, str(error), field="Idempotency-Key") from error


def _check_currency(currency: str, allowed: tuple[str, ...]) -> None:
    if currency not in allowed:
        raise Refusal(
            _S.UNPROCESSABLE_ENTITY,
            "The request is not valid.",
            field="currency",
            message=f"must be one of {', '.join(allowed)}",
        )


def _refuse_repeated_parameters() -> None:
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Refusal(
                _S.UNPROCESSABLE_ENTITY,
                "The request is not valid.",
                field=name,
                message="appears more than once",
            )


class _Json(Response):
    """A response with a JSON document."""

    default_mimetype = "application/json"

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers with the length; no `Location` is an IRI that needs conversion."""
        self.headers["Content-Length"] = str(self.calculate_content_length())
        return self.headers


def _json(
    body: BaseModel, status: HTTPStatus = _S.OK, headers: dict[str, str] | None = None
) -> Response:
    return _Json(body.model_dump_json(), status, headers=headers)
