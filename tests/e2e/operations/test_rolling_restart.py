"""Every service is restarted, one after another, while orders come in: a new release, say."""

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

#: Orders a second, at most.
RATE = 30

#: Who decides orders and tells of them; the API is another matter.
BACKGROUND = [p.name for p in PROGRAMS if p.health in (Health.HEARTBEAT, Health.RUNS)]


def test_a_rolling_restart_of_every_service_loses_and_doubles_nothing(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a system at work
    stack.stock(TEA=100_000)
    # The order of precedence between processes is not the matter here.
    stack.extra["MAILER_NICENESS"] = "0"
    stack.start()
    first = stack.url.removeprefix("http://")
    beside = replace(stack, ports=_another_api_port(stack), _running={})
    second = beside.url.removeprefix("http://")
    customers = Customers(stack, RATE, [first], finished=lambda: len(stack.mailbox.messages) // 2)

    try:
        with customers.ordering():
            eventually(lambda: _assert_placed(customers, 2 * RATE))
            # When each program is started anew, and the old one told to end when the new one works
            for name in BACKGROUND:
                stack.start(name, alias=f"next-{name}")
                if name == "beat":
                    eventually(lambda: _assert_both_connected(stack, "beat"))
                stack.shut_down(name)
            # And the API, as a load balancer sees it
            beside.start("api")
            customers.in_service.append(second)
            customers.leave(first)
            stack.shut_down("api")
            so_far = len(customers.placed)
            eventually(lambda: _assert_placed(customers, so_far + 2 * RATE))

        # Then no request failed, and every order is confirmed and told of, once
        assert customers.failures == []
        customers.assert_all_confirmed_once()
        answered, decided = (
            quantiles(customers.answered, n=100),
            quantiles(customers.waits(), n=100),
        )
        with capsys.disabled():
            sys.stdout.write(
                f"\n{len(customers.placed)} orders while all was restarted:"
                f" answered p50 {answered[49]:.3f} s, p99 {answered[98]:.3f} s;"
                f" decided p50 {decided[49]:.3f} s, p99 {decided[98]:.3f} s\n"
            )
    finally:
        beside.stop()


def _another_api_port(stack: Stack) -> Ports:
    return stack.ports.model_copy(update={"api_port": own_ports().api_port})


def _assert_both_connected(stack: Stack, name: str) -> None:
    # The management API's list of connections: nothing else shows that a beat works.
    found = stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/connections").json()
    names = [connection["client_properties"].get("connection_name") for connection in found]
    assert names.count(name) == 2


def _assert_placed(customers: Customers, count: int) -> None:
    assert customers.failures == []
    assert len(customers.placed) >= count
