"""Pages of the API's list of orders, each with the lines of its orders, at a bounded cost."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from eventbus.database.bounded_scan import by_index
from order_app.domain import Status
from order_app.storage import search
from order_app.storage.models import OrderRow
from order_app.storage.search import Criteria
from order_app.use_cases import Page, Position


def page(
    session: Session,
    *,
    limit: int,
    after: Position | None = None,
    status: Status | None = None,
    customer_email: str | None = None,
) -> Page:
    """Return up to `limit` orders, newest first, filtered by status and customer.

    A page may have fewer orders although another page follows: at most `search.SCANNED` orders of a
    customer are examined for a status.
    """
    criteria = Criteria(
        statuses=(status,) if status else (), email=customer_email or "", is_exact=True
    )
    by_index(session)
    (query,) = search.queries(criteria, after)
    # One row more than the limit shows whether there is a next page.
    found = query.limit(limit + 1).subquery()
    # The ids are passed as an array, so that orders are read by their keys, in the same snapshot as
    # the index. They are sorted in Python, because the planner would read the index of all orders
    # to sort them.
    ids = func.array(select(found.c.id).scalar_subquery())
    rows = sorted(
        session.scalars(select(OrderRow).where(OrderRow.id == func.any(ids))),
        key=lambda row: (row.created_at, row.id),
        reverse=True,
    )
    orders = tuple(row.to_domain() for row in rows[:limit])
    if len(rows) > limit:
        last = orders[-1]
        return Page(orders=orders, next=Position(created_at=last.created_at, id=last.id))
    if status is None or customer_email is None:
        return Page(orders=orders, next=None)
    return Page(orders=orders, next=search.examined(session, criteria, after))
