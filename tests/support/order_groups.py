"""Orders that the API's group commit writes, alone or as one group."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

from sqlalchemy import Connection, Engine, select, text

from eventbus.outbox.table import outbox
from order_app import use_cases
from order_app.domain import Line, Order
from order_app.events import Cause
from order_app.storage.group_commit import GroupCommit
from order_app.storage.intake import Placing
from order_app.storage.models import OrderRow
from order_app.use_cases import Placement
from testkit.eventually import eventually

LINES = (Line(sku="TEA", quantity=2, unit_price=1250), Line(sku="CUP", quantity=1, unit_price=5))


def an_order(key: str | None = None, email: str = "ann@example.com") -> Placing:
    """Return a valid order of two lines."""
    placement = Placement(customer_email=email, currency="EUR", lines=LINES)
    return use_cases.new_order(placement, deadline=timedelta(minutes=1), cause=Cause(), key=key)


def stored(engine: Engine) -> set[UUID]:
    """Return the stored orders, after a check that each has two lines and an event."""
    with engine.connect() as connection:
        orders = set(connection.scalars(select(OrderRow.id)))
        assert set(connection.scalars(select(outbox.c.subject))) == orders
        (lines,) = connection.execute(text("SELECT count(*) FROM order_lines")).one()
    assert lines == 2 * len(orders)
    return orders


@contextmanager
def one_group(
    groups: GroupCommit, engine: Engine, *placings: Placing
) -> Iterator[tuple[Future[Order | None], list[Future[Order | None]], Connection]]:
    """Submit orders during a write that ends with the block, so that they form one group.

    Yield the results of the first order and of the group, and the connection whose rollback ends
    the write earlier.
    """
    with engine.connect() as holder, ThreadPoolExecutor(20) as pool:
        holder.execution_options(isolation_level="READ COMMITTED")
        holder.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        first = pool.submit(groups.place, an_order())
        eventually(lambda: assert_blocked(engine))
        others = [pool.submit(groups.place, placing) for placing in placings]
        eventually(lambda: assert_gathered(groups, len(placings)))
        yield first, others, holder
        holder.rollback()


def assert_blocked(engine: Engine) -> None:
    """Require that one statement waits for a lock."""
    assert len(blocked(engine)) == 1


def assert_gathered(groups: GroupCommit, count: int) -> None:
    """Require that this number of orders waits for the current write."""
    assert len(groups._gathered) == count


def blocked(engine: Engine) -> list[int]:
    """Return the processes of the database that wait for a lock."""
    waits = "datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        pids = connection.execute(text(f"SELECT pid FROM pg_stat_activity WHERE {waits}"))
        return list(pids.scalars())
