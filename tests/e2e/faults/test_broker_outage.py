"""Broker outages: work that needs no broker continues, and every order is decided."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from common.kombu_topology import SERVICES
from testkit.eventually import eventually, never
from testkit.processes.stack import ORDER_FLOW_WITH_MAILS, Stack

TICKERS = (
    "order-relay",
    "inventory-relay",
    "notification-mailer",
    "fraud-relay",
    "analytics-reader",
)


@contextmanager
def no_broker(stack: Stack) -> Iterator[None]:
    """Keep the broker down during the block."""
    stack.servers.stop_broker()
    try:
        yield
    finally:
        stack.servers.start_broker()


def test_overdue_orders_are_cancelled_during_a_broker_outage(stack: Stack) -> None:
    # Given orders that are placed during a broker outage
    stack.extra["ORDER_DEADLINE"] = "4"
    stack.start(*ORDER_FLOW_WITH_MAILS)
    stack.stock(TEA=100)
    with no_broker(stack):
        orders = [stack.place(("TEA", 1)) for _ in range(5)]

        # When their deadlines pass, then each is cancelled within five seconds
        assert {stack.decided(order_id) for order_id in orders} == {("CANCELLED", "deadline")}
        late = stack.execute(
            "order", "SELECT extract(epoch FROM decided_at - deadline_at) FROM orders"
        )
        assert all(0 <= seconds <= 5 for seconds in late)

    # And after the outage every service receives the events, and no event remains unsent
    def settled() -> None:
        types = stack.execute("inventory", "SELECT type FROM inbox")
        assert sorted(types) == ["order.cancelled"] * 5 + ["order.created"] * 5
        assert stack.execute("order", "SELECT count(*) FROM outbox WHERE sent_at IS NULL") == [0]
        assert len(stack.mails()) == 10

    eventually(settled)
    assert stack.reserved("TEA") == 0
    assert [stack.vhost.depth(s.parking_lot) for s in SERVICES if s.consumes] == [0, 0, 0, 0]
    assert {stack.order(order_id)["reason"] for order_id in orders} == {"deadline"}


def test_an_outage_shorter_than_the_deadline_cancels_nothing(stack: Stack) -> None:
    # Given orders that are placed during a broker outage
    stack.extra["ORDER_DEADLINE"] = "90"
    stack.start(*ORDER_FLOW_WITH_MAILS)
    stack.stock(TEA=100)
    with no_broker(stack):
        orders = [stack.place(("TEA", 1)) for _ in range(20)]

    # When it ends before their deadlines, then all are confirmed
    outcomes = {stack.decided(order_id) for order_id in orders}
    assert outcomes == {("CONFIRMED", None)}
    assert stack.reserved("TEA") == 20


def test_the_mailer_starts_and_sends_during_a_broker_outage(stack: Stack) -> None:
    # Given a recorded email, and no mailer
    stack.start("api", "order-relay", "notification-worker")
    stack.place(("TEA", 1))
    eventually(lambda: _assert_recorded(stack))

    # When the mailer is started during an outage
    with no_broker(stack):
        stack.start("notification-mailer")

        # Then the email is sent
        eventually(lambda: _assert_mails(stack, 1))


def test_processes_survive_a_broker_outage_and_shut_down(stack: Stack) -> None:
    # Given all processes that consume ticks
    stack.start(*TICKERS)
    before = stack.pids()
    with no_broker(stack):
        # When the outage is longer than the maximum age of a health file
        first = {name: _touched(stack, name) for name in TICKERS}

        def all_later() -> None:
            assert all(_touched(stack, name) > first[name] + 12 for name in TICKERS)

        eventually(all_later)

        # Then no process was restarted, and each shuts down
        assert stack.pids() == before
        for name in TICKERS:
            stack.shut_down(name)


def test_a_stalled_process_exits_during_a_broker_outage(stack: Stack) -> None:
    # Given a relay whose drain can be stalled
    stack.start("order-relay", module="testkit.programs.stalling.order_relay")
    with no_broker(stack):
        # When it stalls
        stack.signal("order-relay", signal.SIGUSR2)

        # Then it exits, and logs the reason
        assert stack.wait_until_dead("order-relay") == 70
        assert "loop stalled" in stack.log("order-relay")


def _touched(stack: Stack, name: str) -> float:
    return stack.health_file(name).stat().st_mtime


def _assert_recorded(stack: Stack) -> None:
    assert stack.execute("notification", "SELECT count(*) FROM notifications") == [1]


def _assert_mails(stack: Stack, count: int) -> None:
    assert len(stack.mails()) == count


def test_a_broker_alarm_opens_no_connection(stack: Stack) -> None:
    # Given beat and all consumers of ticks
    stack.start(*TICKERS, "beat")
    eventually(lambda: _assert_connected(stack, [*TICKERS, "beat"]))
    before = _connections(stack)

    # When an alarm blocks publishers during several ticks, confirms and retries
    with stack.servers.limited("set_vm_memory_high_watermark", "absolute 1MB", "absolute 1GB"):
        eventually(lambda: _assert_blocked(stack))

        # Then no process opens another connection
        never(lambda: _assert_no_more(stack, before), during=20)
    assert all(stack.is_running(name) for name in (*TICKERS, "beat"))


def _connections(stack: Stack) -> list[str]:
    # The broker's statistics are seconds old.
    listed = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
    return sorted(c.get("client_properties", {}).get("connection_name", "") for c in listed)


def _assert_connected(stack: Stack, names: list[str]) -> None:
    assert len(_connections(stack)) >= len(names)
    assert "beat" in _connections(stack)
    assert "analytics-reader stream" in _connections(stack)


def _assert_blocked(stack: Stack) -> None:
    listed = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
    assert "blocked" in {c.get("state") for c in listed}


def _assert_no_more(stack: Stack, before: list[str]) -> None:
    assert len(_connections(stack)) <= len(before), _connections(stack)
