"""Stuck orders: PENDING for too long or past their deadline, each with its place."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from common.kombu_topology import CONSUMERS, ORDER
from console.databases.service_database import reading
from console.ledger.books import Books
from console.orders import journal, places
from console.orders.delivery import Delivery, waiting
from console.orders.places import SEARCH
from console.settings import RedriveSettings
from order_app.storage.pending import undecided
from order_app.storage.search import Summary

#: The age from which an undecided order counts as stuck. A decision takes less than a second.
OLDER_THAN = timedelta(seconds=30)

#: Maximum number of orders that are examined, oldest first.
LIMIT = 100

#: The services that decide an order. Other services cannot delay it.
_DECIDING = tuple(service for service in CONSUMERS if service.essential)


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """An order that is not decided, and its events that wait for a service that decides it.

    `problem` states why the order is stuck although no event waits, and is otherwise empty.
    `closed` is the event that the reason concerns, if there is one.
    """

    order: Summary
    waiting: tuple[Delivery, ...]
    problem: str = ""
    closed: Delivery | None = None


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A cause that several stuck orders share, with the delivery of one order, and their number."""

    delivery: Delivery
    orders: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """At most `LIMIT` stuck orders, oldest first. `is_cut` states whether there are more.

    `problem` states why the messages could not be searched for, and is otherwise empty.
    """

    orders: tuple[Stuck, ...]
    is_cut: bool
    problem: str

    @property
    def shared(self) -> list[Shared]:
        """The causes that several orders share, the most frequent first."""
        first: dict[tuple[str, ...], Delivery] = {}
        orders = Counter[tuple[str, ...]]()
        for each in self.orders:
            # Several events of one order may wait for the same reason.
            by_cause = {delivery.cause: delivery for delivery in reversed(each.waiting)}
            first = by_cause | first
            orders.update(by_cause.keys())
        shared = [Shared(delivery=first[cause], orders=n) for cause, n in orders.most_common()]
        return [each for each in shared if each.orders > 1]


def find(
    settings: RedriveSettings,
    books: Books,
    *,
    older_than: timedelta = OLDER_THAN,
    seconds: float = SEARCH,
) -> Report:
    """Return the orders that are PENDING for longer than `older_than` or past their deadline.

    A search of the queues takes at most `seconds`, for all orders together. Raises the errors of
    the order service's database; the problems of other servers are in the report.
    """
    with reading(books.databases[ORDER.name]) as session:
        orders = undecided(session, older_than=older_than, limit=LIMIT + 1)
    listed = orders[:LIMIT]
    if not listed:
        return Report(orders=(), is_cut=False, problem="")
    read = journal.read(books, [order.id for order in listed], services=_DECIDING)
    found = places.find(settings, books, read, _DECIDING, seconds=seconds)
    by_order: defaultdict[UUID, list[Delivery]] = defaultdict(list)
    for delivery in found.deliveries:
        by_order[delivery.event.order_id].append(delivery)
    return Report(
        orders=tuple(_stuck(order, by_order[order.id]) for order in listed),
        is_cut=len(orders) > LIMIT,
        problem=found.problem,
    )


def _stuck(order: Summary, deliveries: Sequence[Delivery]) -> Stuck:
    if open_ := waiting(deliveries):
        return Stuck(order=order, waiting=open_)
    if order.deadline_at < datetime.now(UTC):
        problem = "order-relay has not cancelled it at its deadline: its sweep is not running"
    elif not deliveries:
        problem = "no event of it is stored"
    elif closed := next((each for each in deliveries if not each.handled), None):
        problem = f"{closed.event.type} is {closed.where}"
        return Stuck(order=order, waiting=(), problem=problem, closed=closed)
    else:
        problem = "all its events are handled, and none is a reply of the inventory"
    return Stuck(order=order, waiting=(), problem=problem)
