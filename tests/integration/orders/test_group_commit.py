"""Group commit: orders that arrive together are written together, and fail alone."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import pytest
from sqlalchemy import Engine, event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from eventbus.database import db
from order_app import use_cases
from order_app.domain import Order
from order_app.storage import intake
from order_app.storage.group_commit import GroupCommit, _Member
from order_app.storage.intake import Placing
from testkit.eventually import eventually
from tests.support.order_groups import (
    LINES,
    an_order,
    assert_blocked,
    assert_gathered,
    blocked,
    one_group,
    stored,
)


@pytest.fixture
def groups(engine: Engine) -> GroupCommit:
    return GroupCommit(engine.connect, patience=10, limit=60)


def broken(placing: Placing) -> Placing:
    """Return an order that the database rejects."""
    lines = (replace(LINES[0], quantity=0),)
    return replace(placing, order=replace(placing.order, lines=lines))


def test_a_single_order_is_written_at_once(groups: GroupCommit, engine: Engine) -> None:
    placings = [an_order() for _ in range(3)]

    assert all(groups.place(placing) for placing in placings)

    assert stored(engine) == {placing.order.id for placing in placings}


def test_orders_that_arrive_during_a_write_share_one_statement(
    groups: GroupCommit, engine: Engine
) -> None:
    # Given orders with and without idempotency keys
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    placings = [an_order(key=key) for key in (None, "a", "b", None, "c")]

    # When they arrive during a write
    with one_group(groups, engine, *placings) as (first, others, _):
        pass

    # Then one statement writes them all
    assert first.result()
    assert all(other.result() for other in others)
    assert stored(engine) > {placing.order.id for placing in placings}
    assert len([s for s in statements if s.startswith("EXECUTE")]) == 2


def test_two_requests_with_one_key_in_a_group_place_one_order(
    groups: GroupCommit, engine: Engine
) -> None:
    # When two orders with one key and a third order form a group
    same, neighbour = [an_order(key="k"), an_order(key="k")], an_order(key="other")
    with one_group(groups, engine, *same, neighbour) as (_, others, _):
        pass

    # Then one of the two and the third are placed
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
    # Given a key that an earlier order has used
    assert groups.place(an_order(key="k"))

    # When it is used again in a group
    with one_group(groups, engine, an_order(), an_order(key="k"), an_order()) as (_, others, _):
        pass

    # Then only that order is not placed
    assert [bool(other.result()) for other in others] == [True, False, True]
    assert len(stored(engine)) == 4


@pytest.mark.parametrize(
    ("bad", "error"),
    [(broken(an_order()), IntegrityError), (an_order(email="\ud800@x"), UnicodeEncodeError)],
)
def test_a_failing_order_does_not_affect_the_rest_of_its_group(
    groups: GroupCommit, engine: Engine, bad: Placing, error: type[Exception]
) -> None:
    # When a group contains a failing order
    good = [an_order(), an_order(key="k")]
    with one_group(groups, engine, good[0], bad, good[1]) as (first, others, _):
        pass

    # Then only that order fails
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
    # Given a group whose statement is running
    with one_group(groups, engine, an_order(), an_order()) as (first, others, holder):
        holder.exec_driver_sql(f"SELECT pg_terminate_backend({blocked(engine)[0]})")
        eventually(lambda: assert_gathered(groups, 0))
        eventually(lambda: assert_blocked(engine))

        # When its connection is lost, like that of the order before it
        holder.exec_driver_sql(f"SELECT pg_terminate_backend({blocked(engine)[0]})")
        eventually(lambda: _assert_done(first, *others))

    # Then every order fails, and none is stored
    for result in (first, *others):
        with pytest.raises(OperationalError):
            result.result()
    assert stored(engine) == set()

    # And the next order is placed
    assert groups.place(an_order())


def _assert_done(*futures: Future[Order | None]) -> None:
    assert all(future.done() for future in futures)


def test_an_order_that_waits_too_long_times_out_and_is_not_placed(engine: Engine) -> None:
    # Given groups with a short time limit
    groups = GroupCommit(engine.connect, patience=0.05, limit=60)

    # When an order waits behind a blocked write
    with engine.connect() as holder, ThreadPoolExecutor(2) as pool:
        holder.execution_options(isolation_level="READ COMMITTED")
        holder.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        first = pool.submit(groups.place, an_order())
        eventually(lambda: assert_blocked(engine))
        with pytest.raises(PoolTimeout):
            groups.place(an_order())
        holder.rollback()

    # Then it times out, and only the first order is stored
    assert first.result()
    assert len(stored(engine)) == 1


def test_an_order_that_times_out_during_its_write_gets_the_result(
    groups: GroupCommit, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an order whose time ends while its group is being written
    late, wait = an_order(), _Member.wait
    waited: list[float] = []

    def end_early(member: _Member, seconds: float) -> bool:
        if member.placing is late and not waited:
            waited.append(seconds)
            eventually(lambda: assert_gathered(groups, 0))
            return False
        return wait(member, seconds)

    monkeypatch.setattr(_Member, "wait", end_early)

    # When the write finishes
    with one_group(groups, engine, an_order(), late) as (_, others, _):
        pass

    # Then the order has its result
    assert all(other.result() for other in others)
    assert waited
    assert late.order.id in stored(engine)


def test_groups_with_the_same_keys_do_not_deadlock(engine: Engine) -> None:
    def write(keys: list[str]) -> int:
        with engine.connect() as connection:
            return len(intake.write(connection, [an_order(key=key) for key in keys]))

    with ThreadPoolExecutor(2) as pool:
        for turn in range(20):
            # When two processes claim the same keys in opposite order
            keys = [f"{turn}-{number}" for number in range(100)]
            one, other = pool.submit(write, keys), pool.submit(write, keys[::-1])

            # Then each key belongs to one order
            assert one.result() + other.result() == len(keys)
