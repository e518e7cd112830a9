"""Group commit: a write that hangs does not block the orders that arrive after it."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from sqlalchemy import Connection, Engine

from eventbus.database import outages
from eventbus.database.outages import NoResponse
from order_app.domain import Order
from order_app.storage.group_commit import GroupCommit
from testkit.data.order_groups import an_order, one_group, stored
from testkit.eventually import eventually


class Hanging:
    """An engine of which one attempt to connect hangs, the first or a later one."""

    def __init__(self, engine: Engine, attempt: int = 1) -> None:
        self._engine = engine
        self._before = attempt - 1
        self.hangs, self.ends = Event(), Event()

    def connect(self) -> Connection:
        if self._before == 0 and not self.hangs.is_set():
            self.hangs.set()
            assert self.ends.wait(120)
        self._before -= 1
        return self._engine.connect()


def test_a_write_that_hangs_does_not_block_later_orders(engine: Engine) -> None:
    # Given an order whose write hangs
    hanging, hung = Hanging(engine), an_order()
    groups = GroupCommit(hanging.connect, patience=0.2, limit=0.1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(groups.place, hung)
        assert hanging.hangs.wait(60)

        # When orders arrive, the first of them perhaps before the write is overdue
        later = [an_order() for _ in range(3)]
        placed = [groups.place(placing) for placing in later]

        # Then they are placed while it hangs
        assert all(placed)
        assert not first.done()
        assert stored(engine) == {placing.order.id for placing in later}

        # And when the write ends, it does not affect the groups after it
        hanging.ends.set()
        assert first.result()
    assert groups.place(an_order())
    assert groups._leader is None
    assert hung.order.id in stored(engine)


def test_the_orders_of_a_group_that_hangs_fail_as_in_an_outage(engine: Engine) -> None:
    # Given a group whose write hangs
    hanging = Hanging(engine, attempt=2)
    groups = GroupCommit(hanging.connect, patience=10, limit=60)
    placings = [an_order() for _ in range(3)]
    with one_group(groups, engine, *placings) as (_, others, holder):
        groups._limit = 0.5
        holder.rollback()
        assert hanging.hangs.wait(60)

        # Then the orders that its leader would write fail, because their outcome is unknown
        eventually(lambda: _assert_failed(others, 2))
        errors = [other.exception() for other in others if other.done()]
        assert {type(error) for error in errors} == {NoResponse}
        reasons = {outages.reason(error) for error in errors if error}
        assert reasons == {"the database does not respond"}

        # And a later order is placed while it hangs
        assert groups.place(an_order())
        assert not all(other.done() for other in others)
        hanging.ends.set()


def _assert_failed(others: list[Future[Order | None]], count: int) -> None:
    assert sum(other.done() for other in others) == count
