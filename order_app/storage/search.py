"""The search for orders by status, address and time: pages of bounded cost, newest first.

Each page is read from one index in its order, starting where the previous page ended. A page of
several statuses or spellings is merged from one such range for each of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from eventbus.database.bounded_scan import by_index
from order_app.domain import Status, reason_of, status_of
from order_app.storage.models import OrderRow
from order_app.use_cases import Position

#: A query that selects the columns below.
Query = Select[*tuple[Any, ...]]

#: Maximum number of orders of one address, from the newest, that a search for a status examines. A
#: customer has fewer orders.
SCANNED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """Criteria that an order must meet. Every order meets an empty criterion.

    `since` is inclusive, and `until` is exclusive. Both refer to the time at which the order was
    placed.
    """

    statuses: tuple[Status, ...] = ()
    #: A valid address, in the form in which the API stores it. Unless `is_exact`, other spellings
    #: are found as well.
    email: str = ""
    is_exact: bool = False
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An order in a list, without its lines; `total` is in minor units of the currency."""

    id: UUID
    status: Status | str
    reason: str | None
    customer_email: str
    currency: str
    total: int
    created_at: datetime
    deadline_at: datetime
    decided_at: datetime | None

    @property
    def position(self) -> Position:
        """The position of the order in the list of all orders."""
        return Position(created_at=self.created_at, id=self.id)


COLUMNS = (
    OrderRow.id,
    OrderRow.status,
    OrderRow.reason,
    OrderRow.customer_email,
    OrderRow.currency,
    OrderRow.total,
    OrderRow.created_at,
    OrderRow.deadline_at,
    OrderRow.decided_at,
)


def search(
    session: Session, criteria: Criteria, *, limit: int, after: Position | None = None
) -> list[Summary]:
    """Return up to `limit` orders that meet the criteria and follow `after`, newest first.

    If an address has more than `SCANNED` orders, only the newest are searched for a status.
    """
    by_index(session)
    pages = [
        [summary(row) for row in session.execute(query.limit(limit))]
        for query in queries(criteria, after)
    ]
    newest_first = merge(*pages, key=lambda order: (order.created_at, order.id), reverse=True)
    return list(islice(newest_first, limit))


def spellings(address: str) -> tuple[str, ...]:
    """Return the spellings under which an address may be stored, each once.

    The local part is stored as the customer entered it, and the keyboards of phones capitalize it.
    """
    local, _, domain = address.rpartition("@")
    lower = local.lower()
    parts = (local, lower, lower.capitalize(), lower.title())
    return tuple(dict.fromkeys(f"{part}@{domain}" for part in parts))


def summary(row: Row[*tuple[Any, ...]]) -> Summary:
    """Return a row of `COLUMNS` as an order."""
    order = dict(row._mapping)
    status, reason = status_of(order.pop("status")), reason_of(order.pop("reason"))
    return Summary(status=status, reason=reason, **order)


def examined(
    session: Session, criteria: Criteria, after: Position | None = None
) -> Position | None:
    """Return the position of the last order that a search for an address and a status examines.

    The search continues after it. None if the search examines all orders of the address. The
    criteria must be exact.
    """
    query = _range(criteria, after, OrderRow.customer_email, criteria.email)
    row = session.execute(query.offset(SCANNED - 1).limit(1)).first()
    return Position(created_at=row.created_at, id=row.id) if row else None


def queries(criteria: Criteria, after: Position | None) -> Iterator[Query]:
    """Yield the queries whose merged results are the orders that meet the criteria.

    Each result is sorted, newest first. The planner must read indexes in order (`by_index`).
    """
    if criteria.email:
        is_exact = criteria.is_exact
        for spelling in (criteria.email,) if is_exact else spellings(criteria.email):
            query = _range(criteria, after, OrderRow.customer_email, spelling)
            yield _of_status(query, criteria.statuses) if criteria.statuses else query
    elif criteria.statuses:
        for status in criteria.statuses:
            yield _range(criteria, after, OrderRow.status, status)
    else:
        yield _range(criteria, after)


def _range(
    criteria: Criteria,
    after: Position | None,
    column: InstrumentedAttribute[str] | None = None,
    value: str = "",
) -> Query:
    """Return the orders with this value of an indexed column, newest first.

    The bounds are compared as complete rows, and no column is compared for equality. Only the index
    that begins with the column has this order, regardless of the planner's statistics.
    """
    columns = (OrderRow.created_at, OrderRow.id)
    key, first = ((column, *columns), (value,)) if column is not None else (columns, ())
    query: Query = select(*COLUMNS).order_by(*(each.desc() for each in key))
    if end := _end(criteria, after):
        query = query.where(tuple_(*key) < tuple_(*first, *end))
    elif column is not None:
        query = query.where(column <= value)
    if criteria.since:
        query = query.where(tuple_(*key[:-1]) >= tuple_(*first, criteria.since))
    elif column is not None:
        query = query.where(column >= value)
    return query


def _end(criteria: Criteria, after: Position | None) -> tuple[datetime, UUID] | None:
    """Return the time and the id before which a page ends."""
    ends = []
    if criteria.until:
        ends.append((criteria.until, UUID(int=0)))
    if after:
        ends.append((after.created_at, after.id))
    return min(ends, default=None)


def _of_status(query: Query, statuses: Sequence[Status]) -> Query:
    newest = query.limit(SCANNED).subquery()
    return (
        select(*newest.c)
        .where(newest.c.status.in_(statuses))
        .order_by(newest.c.created_at.desc(), newest.c.id.desc())
    )
