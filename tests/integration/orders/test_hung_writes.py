"""Group commit: a write that hangs does not block the orders that arrive after it."""

from concurrent.futures import Future, ThreadPoolExecutor
from itertools import count
from threading import Event

from sqlalchemy import Connection, Engine

from eventbus.database import outages
from eventbus.database.outages import NoResponse
from order_app.domain import Order
from order_app.storage.group_commit import GroupCommit
from testkit.eventually import eventually
from tests.support.order_groups import an_order, assert_gathered, one_group, stored


class Hanging:
    """An engine of which some attempts to connect hang; the first one has the number 1."""

    def __init__(self, engine: Engine, *attempts: int) -> None:
        self._engine = engine
        self._attempts = count(1)
        self.hangs = {attempt: Event() for attempt in attempts}
        self.ends = {attempt: Event() for attempt in attempts}

    def connect(self) -> Connection:
        attempt = next(self._attempts)
        if attempt in self.hangs:
            self.hangs[attempt].set()
            assert self.ends[attempt].wait(60)
        return self._engine.connect()


def test_a_write_that_hangs_does_not_block_later_orders(engine: Engine) -> None:
    # Given an order whose write hangs
    hanging, hung = Hanging(engine, 1), an_order()
    groups = GroupCommit(hanging.connect, patience=0.2, limit=0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(groups.place, hung)
        assert hanging.hangs[1].wait(60)

        # When orders arrive, the first of them perhaps before the write is overdue
        later = [an_order() for _ in range(3)]
        placed = [groups.place(placing) for placing in later]

        # Then they are placed while it hangs
        assert all(placed)
        assert not first.done()
        assert stored(engine) == {placing.order.id for placing in later}

        # And when the write ends, it does not affect the groups after it
        hanging.ends[1].set()
        assert first.result()
    assert groups.place(an_order())
    assert groups._leader is None
    assert hung.order.id in stored(engine)


def test_an_overdue_write_that_ends_leaves_the_current_write_alone(engine: Engine) -> None:
    # Given a write that is overdue, another write in progress, and an order that waits for it
    hanging = Hanging(engine, 1, 2)
    groups = GroupCommit(hanging.connect, patience=60, limit=0.1)
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(groups.place, an_order())
        assert hanging.hangs[1].wait(60)
        eventually(lambda: _assert_overdue(groups))
        groups._limit = 60
        second = pool.submit(groups.place, an_order())
        assert hanging.hangs[2].wait(60)
        third = pool.submit(groups.place, an_order())
        eventually(lambda: assert_gathered(groups, 1))
        leader = groups._leader

        # When the overdue write ends
        hanging.ends[1].set()
        assert first.result()

        # Then the order still waits for the other one
        assert groups._leader is leader
        assert_gathered(groups, 1)
        hanging.ends[2].set()
        assert second.result()
        assert third.result()


def _assert_overdue(groups: GroupCommit) -> None:
    assert groups._is_free()


def test_the_orders_of_a_group_that_hangs_fail_as_in_an_outage(engine: Engine) -> None:
    # Given a group whose write hangs
    hanging = Hanging(engine, 2)
    groups = GroupCommit(hanging.connect, patience=10, limit=60)
    placings = [an_order() for _ in range(3)]
    with one_group(groups, engine, *placings) as (_, others, holder):
        groups._limit = 0.5
        holder.rollback()
        assert hanging.hangs[2].wait(60)

        # Then the orders that its leader would write fail, because their outcome is unknown
        eventually(lambda: _assert_failed(others, 2))
        errors = [other.exception() for other in others if other.done()]
        assert {type(error) for error in errors} == {NoResponse}
        reasons = {outages.reason(error) for error in errors if error}
        assert reasons == {"the database does not respond"}

        # And a later order is placed while it hangs
        assert groups.place(an_order())
        assert not all(other.done() for other in others)
        hanging.ends[2].set()


def _assert_failed(others: list[Future[Order | None]], count: int) -> None:
    assert sum(other.done() for other in others) == count
