"""The list of orders, page by page: each page names the position at which the next page starts."""

from dataclasses import dataclass

from common.kombu_topology import ORDER
from console.databases.service_database import reading, sessions
from console.errors import ActionError
from console.settings import DatabaseServer
from order_app.http import cursor
from order_app.storage.search import Criteria, Summary, search


@dataclass(frozen=True, kw_only=True)
class Page:
    """Orders, newest first, and the cursor of the next page, which is None on the last page."""

    orders: tuple[Summary, ...]
    next: str | None


def page(
    settings: DatabaseServer, criteria: Criteria, *, limit: int, after: str | None = None
) -> Page:
    """Return the orders that meet the criteria, at most `limit`, after the cursor of a page.

    Raises `ActionError` if the cursor is invalid.
    """
    try:
        position = cursor.decode(after) if after else None
    except ValueError as error:
        raise ActionError(f"after {error}") from None
    with sessions(settings, ORDER) as database, reading(database) as session:
        # One order more than the limit shows whether there is a next page.
        found = search(session, criteria, limit=limit + 1, after=position)
    orders = tuple(found[:limit])
    is_last = len(found) <= limit
    return Page(orders=orders, next=None if is_last else cursor.encode(orders[-1].position))
