"""The orders API: each route checks what it gets, calls one use-case, and shows the result."""

from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response, current_app, g, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from werkzeug.datastructures import Headers

from order_app import use_cases
from order_app.domain import Order, Reason, Status
from order_app.events import Cause
from order_app.http import access, client_address
from order_app.http.problems import Refusal, responses
from order_app.http.requests import NewOrder, OrderPath, OrderQuery, PlacingHeaders
from order_app.http.responses import OrderPage, OrderView, Timeline
from order_app.http.validation import validated
from order_app.settings import ApiSettings
from order_app.storage import group_commit
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
    abp_tags=[Tag(name="orders", description="Place, watch, ship and cancel orders.")],
    abp_responses=responses({}, _S.UNPROCESSABLE_ENTITY, _S.SERVICE_UNAVAILABLE),
    operation_id_callback=lambda *, name, **_: name,
)

_PLACED = {
    "description": "The order, PENDING until the inventory has answered.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/OrderView"}}},
    "headers": {
        "Location": {"description": "The order's path.", "schema": {"type": "string"}},
        "Idempotency-Replayed": {
            "description": "`true` if the order was placed by an earlier request with this key.",
            "schema": {"type": "string", "enum": ["true"]},
        },
    },
}


@orders.post(
    "",
    responses=responses(
        {201: _PLACED},
        _S.BAD_REQUEST,
        _S.REQUEST_TIMEOUT,
        _S.REQUEST_ENTITY_TOO_LARGE,
        _S.UNSUPPORTED_MEDIA_TYPE,
    ),
)
@validated
def place_order(header: PlacingHeaders, body: NewOrder) -> Response:
    """Place an order.

    It is accepted at once and PENDING; read it again to learn what became of it.
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
    return _json(OrderView.of(order), _S.CREATED, headers)


@orders.get("", responses={200: OrderPage})
def list_orders(query: OrderQuery) -> Response:
    """List orders, newest first."""
    _refuse_repeated_parameters()
    with db.session.begin():
        page = use_cases.list_page(
            db.session(),
            limit=query.limit,
            after=query.cursor,
            status=query.status,
            customer_email=query.email,
        )
    return _json(OrderPage.of(page))


@orders.get("/<order_id>", responses=responses({200: OrderView}, _S.NOT_FOUND))
def get_order(path: OrderPath) -> Response:
    """Show an order."""
    with db.session.begin():
        order = use_cases.get(db.session(), path.order_id)
    return _json(OrderView.of(order))


@orders.post(
    "/<order_id>/cancel",
    responses=responses({200: OrderView}, _S.NOT_FOUND, _S.CONFLICT),
)
def cancel_order(path: OrderPath) -> Response:
    """Cancel an order for its customer.

    It may be PENDING or CONFIRMED; to cancel it again is harmless. An order that was cancelled
    for another reason stays so, and a SHIPPED one stays SHIPPED: 409.
    """
    with db.session.begin():
        order = use_cases.cancel(
            db.session(),
            path.order_id,
            Reason.CUSTOMER,
            cause=Cause(traceparent=g.traceparent),
        )
    g.order_id = order.id
    _check_cancelled_by_customer(order)
    return _json(OrderView.of(order))


@orders.post(
    "/<order_id>/ship",
    responses=responses({200: OrderView}, _S.NOT_FOUND, _S.CONFLICT),
)
def ship_order(path: OrderPath) -> Response:
    """Ship an order: its goods have left the warehouse.

    It must be CONFIRMED; to ship it again is harmless. A PENDING or CANCELLED order cannot be
    shipped: 409.
    """
    with db.session.begin():
        order = use_cases.ship(db.session(), path.order_id, cause=Cause(traceparent=g.traceparent))
    g.order_id = order.id
    if problem := use_cases.why_not_shipped(order):
        raise Refusal(_S.CONFLICT, problem)
    return _json(OrderView.of(order))


@orders.get("/<order_id>/timeline", responses=responses({200: Timeline}, _S.NOT_FOUND))
def get_timeline(path: OrderPath) -> Response:
    """Show an order's events, as far as the order service knows of them."""
    with db.session.begin():
        entries = timeline(db.session(), path.order_id)
    return _json(Timeline.of(path.order_id, entries))


def _placed_before(placing: Placing) -> Order:
    claim = placing.claim
    assert claim is not None  # noqa: S101  # an order without a key is always placed
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


def _check_cancelled_by_customer(order: Order) -> None:
    if order.status is Status.SHIPPED:
        raise Refusal(_S.CONFLICT, "The order is shipped: it cannot be cancelled any more.")
    if order.status is not Status.CANCELLED:
        raise Refusal(_S.CONFLICT, f"The order cannot be cancelled any more: {order.status}.")
    if order.reason is not Reason.CUSTOMER:
        raise Refusal(_S.CONFLICT, f"The order is cancelled already: {order.reason}.")


def _refuse_repeated_parameters() -> None:
    for name, values in request.args.lists():
        if len(values) > 1:
            raise Refusal(
                _S.UNPROCESSABLE_ENTITY,
                "The request is not valid.",
                field=name,
                message="is given more than once",
            )


class _Json(Response):
    """A JSON document as the answer to a request."""

    default_mimetype = "application/json"

    def get_wsgi_headers(self, environ: "WSGIEnvironment") -> Headers:
        """Return the headers as they are, and the length: there is no IRI in a `Location` here."""
        self.headers["Content-Length"] = str(self.calculate_content_length())
        return self.headers


def _json(
    view: BaseModel, status: HTTPStatus = _S.OK, headers: dict[str, str] | None = None
) -> Response:
    return _Json(view.model_dump_json(), status, headers=headers)
