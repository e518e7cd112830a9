"""Orders that arrive together are written together, and none of them pays for another."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from eventbus.database import db
from eventbus.outbox.table import outbox
from order_app import use_cases
from order_app.domain import Line, Order
from order_app.events import Cause
from order_app.settings import ApiSettings
from order_app.storage import intake
from order_app.storage.group_commit import GroupCommit, _Member
from order_app.storage.intake import Placing
from order_app.storage.models import OrderRow
from order_app.use_cases import Placement
from testkit.eventually import eventually
from testkit.servers.databases import TestDatabase

LINES = (Line(sku="TEA", quantity=2, unit_price=1250), Line(sku="CUP", quantity=1, unit_price=5))


@pytest.fixture
def engine(database_of: Callable[[str], TestDatabase]) -> Iterator[Engine]:
    """An engine as the intake's."""
    settings = ApiSettings(**database_of("order").settings, api_pool_size=20)
    made = create_engine(db.url(settings), **intake.engine_options(settings))
    yield made
    made.dispose()


@pytest.fixture
def groups(engine: Engine) -> GroupCommit:
    return GroupCommit(engine.connect, patience=10)


def an_order(key: str | None = None, email: str = "ann@example.com") -> Placing:
    placement = Placement(customer_email=email, currency="EUR", lines=LINES)
    return use_cases.new_order(placement, deadline=timedelta(minutes=1), cause=Cause(), key=key)


def broken(placing: Placing) -> Placing:
    """An order that the database refuses."""
    lines = (replace(LINES[0], quantity=0),)
    return replace(placing, order=replace(placing.order, lines=lines))


def stored(engine: Engine) -> set[UUID]:
    """The orders that are stored, each with both lines and its event."""
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
    """Let orders come while another one is being written, which goes on at the end of the block."""
    with engine.connect() as holder, ThreadPoolExecutor(20) as pool:
        holder.execution_options(isolation_level="READ COMMITTED")
        holder.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        first = pool.submit(groups.place, an_order())
        eventually(lambda: _assert_blocked(engine))
        others = [pool.submit(groups.place, placing) for placing in placings]
        eventually(lambda: _assert_gathered(groups, len(placings)))
        yield first, others, holder
        holder.rollback()


def _assert_blocked(engine: Engine) -> None:
    assert len(_blocked(engine)) == 1


def _assert_gathered(groups: GroupCommit, count: int) -> None:
    assert len(groups._gathered) == count


def _blocked(engine: Engine) -> list[int]:
    waits = "datname = current_database() AND wait_event_type = 'Lock'"
    with engine.connect() as connection:
        found = connection.execute(text(f"SELECT pid FROM pg_stat_activity WHERE {waits}"))
        return list(found.scalars())


def test_a_single_order_is_written_at_once(groups: GroupCommit, engine: Engine) -> None:
    placings = [an_order() for _ in range(3)]

    assert all(groups.place(placing) for placing in placings)

    assert stored(engine) == {placing.order.id for placing in placings}


def test_orders_that_arrive_during_a_write_share_one_statement(
    groups: GroupCommit, engine: Engine
) -> None:
    # given
    said: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: said.append(args[2]))
    placings = [an_order(key=key) for key in (None, "a", "b", None, "c")]

    # when
    with one_group(groups, engine, *placings) as (first, others, _):
        pass

    # then
    assert first.result()
    assert all(other.result() for other in others)
    assert stored(engine) > {placing.order.id for placing in placings}
    assert len([statement for statement in said if statement.startswith("EXECUTE")]) == 2


def test_two_requests_with_one_key_in_a_group_place_one_order(
    groups: GroupCommit, engine: Engine
) -> None:
    # when
    same, neighbour = [an_order(key="k"), an_order(key="k")], an_order(key="other")
    with one_group(groups, engine, *same, neighbour) as (_, others, _):
        pass

    # then
    results = [bool(other.result()) for other in others]
    assert sorted(results) == [False, True, True]
    assert results[2]
    assert len(stored(engine)) == 3
    (placed,) = [placing for placing, result in zip(same, results, strict=False) if result]
    with db.sessions(engine)() as session:
        assert placed.claim is not None
        assert use_cases.placed_before(session, placed.claim).id == placed.order.id


def test_a_used_key_does_not_affect_the_rest_of_its_group(
    groups: GroupCommit, engine: Engine
) -> None:
    # given
    assert groups.place(an_order(key="k"))

    # when
    with one_group(groups, engine, an_order(), an_order(key="k"), an_order()) as (_, others, _):
        pass

    # then
    assert [bool(other.result()) for other in others] == [True, False, True]
    assert len(stored(engine)) == 4


@pytest.mark.parametrize(
    ("bad", "error"),
    [(broken(an_order()), IntegrityError), (an_order(email="\ud800@x"), UnicodeEncodeError)],
)
def test_a_failing_order_does_not_affect_the_rest_of_its_group(
    groups: GroupCommit, engine: Engine, bad: Placing, error: type[Exception]
) -> None:
    # when
    good = [an_order(), an_order(key="k")]
    with one_group(groups, engine, good[0], bad, good[1]) as (first, others, _):
        pass

    # then
    assert first.result()
    with pytest.raises(error):
        others[1].result()
    assert others[0].result()
    assert others[2].result()
    assert stored(engine) > {placing.order.id for placing in good}
    assert bad.order.id not in stored(engine)


def test_a_group_is_not_retried_after_a_lost_connection(
    groups: GroupCommit, engine: Engine
) -> None:
    # given a group whose statement is under way
    with one_group(groups, engine, an_order(), an_order()) as (first, others, holder):
        holder.exec_driver_sql(f"SELECT pg_terminate_backend({_blocked(engine)[0]})")
        eventually(lambda: _assert_gathered(groups, 0))
        eventually(lambda: _assert_blocked(engine))

        # when its connection is lost, as was that of the order before it
        holder.exec_driver_sql(f"SELECT pg_terminate_backend({_blocked(engine)[0]})")
        eventually(lambda: _assert_done(first, *others))

    # then nobody is told that it was placed, and none was
    for told in (first, *others):
        with pytest.raises(OperationalError):
            told.result()
    assert stored(engine) == set()

    # and the next is
    assert groups.place(an_order())


def _assert_done(*futures: Future[Order | None]) -> None:
    assert all(future.done() for future in futures)


def test_an_order_that_waits_too_long_times_out_and_is_not_placed(engine: Engine) -> None:
    # given
    groups = GroupCommit(engine.connect, patience=0.05)

    # when
    with engine.connect() as holder, ThreadPoolExecutor(2) as pool:
        holder.execution_options(isolation_level="READ COMMITTED")
        holder.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        first = pool.submit(groups.place, an_order())
        eventually(lambda: _assert_blocked(engine))
        with pytest.raises(PoolTimeout):
            groups.place(an_order())
        holder.rollback()

    # then
    assert first.result()
    assert len(stored(engine)) == 1


def test_an_order_that_times_out_during_its_write_gets_the_result(
    groups: GroupCommit, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given an order whose time ends when its group is already being written
    late, wait = an_order(), _Member.wait
    waited: list[float] = []

    def end_early(member: _Member, seconds: float) -> bool:
        if member.placing is late and not waited:
            waited.append(seconds)
            eventually(lambda: _assert_gathered(groups, 0))
            return False
        return wait(member, seconds)

    monkeypatch.setattr(_Member, "wait", end_early)

    # when
    with one_group(groups, engine, an_order(), late) as (_, others, _):
        pass

    # then
    assert all(other.result() for other in others)
    assert waited
    assert late.order.id in stored(engine)


def test_groups_with_the_same_keys_do_not_deadlock(engine: Engine) -> None:
    def write(keys: list[str]) -> int:
        with engine.connect() as connection:
            return len(intake.write(connection, [an_order(key=key) for key in keys]))

    with ThreadPoolExecutor(2) as pool:
        for turn in range(20):
            # when two processes claim the same keys, each in its own order
            keys = [f"{turn}-{number}" for number in range(100)]
            one, other = pool.submit(write, keys), pool.submit(write, keys[::-1])

            # then each key is one order's
            assert one.result() + other.result() == len(keys)
