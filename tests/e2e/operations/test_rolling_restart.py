"""A rolling restart of every service under load, as for a new release."""

import sys
from dataclasses import replace
from statistics import quantiles

import pytest

from deploy.local.ports import Ports
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import eventually
from testkit.processes.customers import Customers
from testkit.processes.stack import Stack
from testkit.servers.workers import own_ports

#: The maximum of orders per second.
RATE = 30

#: The programs behind the API, which is replaced in another way.
BACKGROUND = [p.name for p in PROGRAMS if p.health in (Health.HEARTBEAT, Health.RUNS)]


def test_a_rolling_restart_loses_and_duplicates_no_order(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a running system
    stack.stock(TEA=100_000)
    stack.start()
    first = stack.url.removeprefix("http://")
    successor = replace(stack, ports=_another_api_port(stack), _running={})
    second = successor.url.removeprefix("http://")
    customers = Customers(stack, RATE, [first], finished=lambda: len(stack.mailbox.messages) // 2)

    try:
        with customers.ordering():
            eventually(lambda: _assert_placed(customers, 2 * RATE))
            # When each program is started again, and the old process is shut down after that
            for name in BACKGROUND:
                stack.start(name, alias=f"next-{name}")
                if name == "beat":
                    eventually(lambda: _assert_both_connected(stack, "beat"))
                stack.shut_down(name)
            # And the API is replaced behind a load balancer
            successor.start("api")
            customers.in_service.append(second)
            customers.leave(first)
            stack.shut_down("api")
            placed = len(customers.placed)
            eventually(lambda: _assert_placed(customers, placed + 2 * RATE))

        # Then no request failed, and every order is confirmed and mailed once
        assert customers.failures == []
        customers.assert_all_confirmed_once()
        answered, decided = (
            quantiles(customers.answered, n=100),
            quantiles(customers.waits(), n=100),
        )
        with capsys.disabled():
            sys.stdout.write(
                f"\n{len(customers.placed)} orders during the restart:"
                f" answered p50 {answered[49]:.3f} s, p99 {answered[98]:.3f} s;"
                f" decided p50 {decided[49]:.3f} s, p99 {decided[98]:.3f} s\n"
            )
    finally:
        successor.stop()


def _another_api_port(stack: Stack) -> Ports:
    return stack.ports.model_copy(update={"api_port": own_ports().api_port})


def _assert_both_connected(stack: Stack, name: str) -> None:
    # Only its connection shows that a beat works.
    listed = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
    names = [connection["client_properties"].get("connection_name") for connection in listed]
    assert names.count(name) == 2


def _assert_placed(customers: Customers, count: int) -> None:
    assert customers.failures == []
    assert len(customers.placed) >= count
