"""The use cases of the order service. Each runs in the transaction that is its first argument."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, func, select, true
from sqlalchemy.orm import Session
from uuid_utils.compat import uuid7

from common.events import OrderCreated, Shortage
from eventbus.database import outages
from eventbus.errors import Permanent
from eventbus.outbox.table import one_statement
from order_app import domain
from order_app.domain import Draft, Line, Order, Reason, Status
from order_app.events import Cause, created, record
from order_app.storage import idempotency, orders
from order_app.storage.idempotency import Claim
from order_app.storage.intake import Placing
from order_app.storage.models import CancellationRow, OrderRow, ShipmentRow


class UnknownOrder(Permanent):
    """No order has this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The content of a request to place an order."""

    customer_email: str
    currency: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The position of an order in the list of all orders, which is sorted newest first."""

    created_at: datetime
    id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page of a list of orders, and the position at which it ends if another page follows."""

    orders: tuple[Order, ...]
    next: Position | None


def new_order(
    placement: Placement,
    *,
    deadline: timedelta,
    cause: Cause,
    api_keys: Sequence[str] = ("",),
    key: str | None = None,
    created_as: str = OrderCreated.TYPE,
) -> Placing:
    """Return a new order, PENDING for no longer than `deadline`, for the intake to write.

    `created_as` is the version of its event. `key` is the client's idempotency key, and `api_keys`
    are the prefixes of the client's API keys, oldest first.
    """
    draft = Draft(
        id=uuid7(),
        customer_email=placement.customer_email,
        currency=placement.currency,
        lines=placement.lines,
    )
    claim = Claim.of(api_keys, key, placement) if key else None
    event = created(draft, cause=cause, created_as=created_as)
    return Placing(order=draft, event=event, deadline=deadline, claim=claim)


def placed_before(session: Session, claim: Claim) -> Order:
    """Return the order that an earlier request placed with the same idempotency key.

    Raises `KeyReused` if that request was different.
    """
    return get(session, idempotency.order_of(session, claim))


def confirm_all(session: Session, causes: Mapping[UUID, Cause]) -> None:
    """Confirm the orders that are PENDING. Raises `UnknownOrder` if an order does not exist."""
    locked = orders.lock(session, causes)
    if len(locked) < len(causes):
        raise UnknownOrder
    pending = [
        (order, sequence) for order, sequence in locked.values() if order.status is Status.PENDING
    ]
    if not pending:
        return
    now = orders.confirm(session, [order.id for order, _ in pending])
    for order, sequence in pending:
        confirmed = domain.confirm(order, now=now)
        record(session, confirmed, sequence=sequence + 1, cause=causes[order.id])


def cancel(
    session: Session,
    order_id: UUID,
    reason: Reason,
    *,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
) -> Order:
    """Cancel the order if this reason still permits it, and return its current state.

    Raises `UnknownOrder`.
    """
    row = _locked(session, order_id)
    order = domain.cancel(row.to_domain(), reason, now=orders.moment(session))
    return _decide(session, row, order, cause, shortages)


def cancel_as_operator(session: Session, order_id: UUID, *, reason: str, operator: str) -> Order:
    """Cancel an order for an operator's reason if still possible, and return its current state.

    `reason` is stored with the operator's name, and is not part of the event, which continues the
    trace of the request that placed the order. Cancelling the order again has no effect. Raises
    `UnknownOrder`.
    """
    row = _locked(session, order_id)
    now = orders.moment(session)
    order = domain.cancel(row.to_domain(), Reason.OPERATOR, now=now)
    if order.status != row.status:
        cancellation = CancellationRow(
            order_id=order_id, reason=reason, cancelled_by=operator, cancelled_at=now
        )
        session.add(cancellation)
    return _decide(session, row, order, Cause(traceparent=row.traceparent))


def why_not_cancelled(order: Order, reason: Reason) -> str | None:
    """Return why the order is not cancelled for `reason`, or None if it is."""
    match order.status:
        case Status.CANCELLED:
            is_cancelled = order.reason == reason
            return None if is_cancelled else f"The order is already cancelled: {order.reason}."
        case Status.SHIPPED:
            return "The order is shipped and can no longer be cancelled."
        case status:
            return f"The order can no longer be cancelled: {status}."


def ship(session: Session, order_id: UUID, *, cause: Cause) -> Order:
    """Mark a CONFIRMED order as shipped, and return its current state. Raises `UnknownOrder`."""
    row = _locked(session, order_id)
    order = domain.ship(row.to_domain(), now=orders.moment(session))
    return _decide(session, row, order, cause)


def ship_as_operator(session: Session, order_id: UUID, *, operator: str) -> Order:
    """Mark a CONFIRMED order as shipped by an operator, and return its current state.

    The operator's name is stored, and is not part of the event, which continues the trace of the
    request that placed the order. Shipping the order again has no effect. Raises `UnknownOrder`.
    """
    row = _locked(session, order_id)
    now = orders.moment(session)
    order = domain.ship(row.to_domain(), now=now)
    if order.status != row.status:
        session.add(ShipmentRow(order_id=order_id, shipped_by=operator, shipped_at=now))
    return _decide(session, row, order, Cause(traceparent=row.traceparent))


def why_not_shipped(order: Order) -> str | None:
    """Return why `ship` did not ship the order, or None if it is SHIPPED."""
    match order.status:
        case Status.SHIPPED:
            return None
        case Status.CANCELLED:
            return f"The order is cancelled: {order.reason}."
        case status:
            return f"The order is {status}: only a confirmed order can be shipped."


def hold(session: Session, order_ids: Collection[UUID]) -> None:
    """Lock all orders of a batch, sorted by id, before any of them is changed."""
    orders.lock(session, order_ids)


class Swept(NamedTuple):
    """The result of a sweep: the number of overdue orders, and the errors of those that remain."""

    found: int
    failed: Mapping[UUID, Exception]

    @property
    def cancelled(self) -> int:
        """The number of cancelled orders."""
        return self.found - len(self.failed)


def sweep_deadlines(
    session: Session,
    grace: timedelta,
    limit: int,
    *,
    since: ColumnElement[datetime] | None = None,
    without: Collection[UUID] = (),
) -> Swept:
    """Cancel up to `limit` orders that are PENDING `grace` after their deadline.

    Deadlines before `since`, and the orders `without`, are skipped. An order that cannot be
    cancelled does not prevent the cancellation of other orders. Raises the errors of an outage.
    Deadlines are compared with the database's clock. Sweeps can run concurrently: each skips the
    orders that another sweep has locked.
    """
    due = func.now() - grace
    overdue = (
        select(OrderRow)
        .where(
            OrderRow.status == Status.PENDING,
            OrderRow.deadline_at <= due,
            true() if since is None else OrderRow.deadline_at >= since,
            OrderRow.id.not_in(without) if without else true(),
        )
        .order_by(OrderRow.deadline_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    rows = session.scalars(overdue).all()
    # The ids are read before a rollback to a savepoint discards the state of the rows.
    ids = [row.id for row in rows]
    failed: dict[UUID, Exception] = {}
    if _cancel_overdue(session, rows):
        for order_id, row in zip(ids, rows, strict=True):
            if error := _cancel_overdue(session, [row]):
                failed[order_id] = error
    return Swept(len(rows), failed)


def _cancel_overdue(session: Session, rows: Sequence[OrderRow]) -> Exception | None:
    """Cancel either all or none of the locked orders, and return the error that prevented it."""
    try:
        with session.begin_nested():
            now = orders.moment(session)
            with one_statement(session):
                for row in rows:
                    order = domain.cancel(row.to_domain(), Reason.DEADLINE, now=now)
                    _decide(session, row, order, Cause(traceparent=row.traceparent))
            # The events would be written with the next statement. They are written here, so that
            # their errors stay within the savepoint.
            session.connection().exec_driver_sql("SELECT")
    except Exception as error:
        if outages.reason(error) or outages.contention(error):
            raise
        return error
    return None


def get(session: Session, order_id: UUID) -> Order:
    """Return an order. Raises `UnknownOrder`."""
    row = session.get(OrderRow, order_id)
    if row is None:
        raise UnknownOrder
    return row.to_domain()


def _locked(session: Session, order_id: UUID) -> OrderRow:
    # Read the current state of the row, which an earlier event of the same transaction may have
    # loaded.
    row = session.get(OrderRow, order_id, with_for_update=True, populate_existing=True)
    if row is None:
        raise UnknownOrder
    return row


def _decide(
    session: Session,
    row: OrderRow,
    order: Order,
    cause: Cause,
    shortages: tuple[Shortage, ...] = (),
) -> Order:
    if order.status != row.status:
        row.decide(order)
        row.sequence += 1
        record(session, order, sequence=row.sequence, cause=cause, shortages=shortages)
    return order
