"""What the processes count is what happened, and every panel of the dashboards shows something."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from console.certificates.certificate_authority import Authority
from deploy.grafana.dashboards import DASHBOARDS
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.servers.prometheus import Prometheus
from testkit.servers.workers import own_ports

(EXPORTER,) = (program for program in PROGRAMS if program.name == "exporter")


@pytest.fixture
def counting(stack: Stack, tmp_path: Path) -> Stack:
    """A system, not started yet, whose processes show metrics."""
    (tmp_path / "attempts").mkdir()
    stack.extra["ATTEMPTS"] = str(tmp_path / "attempts")
    stack.stock(TEA=100)
    ports = own_ports()
    stack.metrics_ports |= {
        program.name: ports.of(program.metrics_variable)
        for program in PROGRAMS
        if program.health is Health.HEARTBEAT and program.metrics_variable
    }
    return stack


@pytest.fixture
def running(counting: Stack) -> Stack:
    """The same with all its processes, and an inventory that fails as the address asks for."""
    module = "testkit.programs.failing.inventory_worker"
    counting.start("inventory-worker", module=module)
    others = [p.name for p in PROGRAMS if p.name != "inventory-worker" and p.is_installed]
    counting.start(*others)
    return counting


@pytest.fixture
def prometheus(running: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that asks them all."""
    with Prometheus.over(running, tmp_path / "prometheus") as server:
        yield server


def shown(stack: Stack, process: str) -> dict[str, float]:
    """The metrics that a process shows."""
    page = httpx.get(f"http://127.0.0.1:{stack.metrics_ports[process]}/metrics", timeout=10).text
    samples = (line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in samples}


def place_one_of_each(stack: Stack) -> None:
    """Place an order that works, one that is tried again, one that is parked, one out of stock."""
    # By itself: an attempt inside a batch that fails is undone, and would be one of the two.
    stack.decided(stack.place(("TEA", 1), email="twice@example.com"))
    stack.place(("TEA", 1), email="permanent@example.com")
    for order_id in (stack.place(("TEA", 1), email="ada@example.com"), stack.place(("NONE", 1))):
        stack.decided(order_id)


def test_every_panel_shows_something_of_a_running_system(
    running: Stack, prometheus: Prometheus
) -> None:
    # Given that everything has happened once, and Prometheus knows
    place_one_of_each(running)
    eventually(lambda: _some(prometheus, "orders_parked_total"))
    eventually(lambda: _some(prometheus, "orders_retries_total"))

    # When it happens again
    place_one_of_each(running)

    # Then each query of each panel has a number
    for page in DASHBOARDS:
        for panel in page.panels:
            for query in panel.queries:
                if "celery_" in query.expr and not EXPORTER.is_installed:
                    continue
                expr = query.expr.replace("$__rate_interval", "10m")
                # The slowest rule is looked at once a minute.
                eventually(lambda e=expr: _some(prometheus, e))


def test_the_metrics_count_what_happened(running: Stack) -> None:
    # When there are one order that works, one tried again, one parked, one out of stock
    place_one_of_each(running)

    # Then the inventory has counted each attempt, as it ended
    def counted() -> None:
        metrics = shown(running, "inventory-worker")
        handler = 'orders_handler_seconds_count{outcome="%s",type="order.created"}'
        assert metrics[handler % "handled"] == 3
        assert metrics[handler % "failed"] == 3
        assert metrics['orders_event_handled_seconds_count{type="order.created"}'] == 3
        assert metrics['orders_retries_total{tier="0.4s",type="order.created"}'] == 1
        assert metrics['orders_retries_total{tier="0.8s",type="order.created"}'] == 1
        assert metrics['orders_parked_total{reason="Permanent"}'] == 1
        assert metrics["orders_broker_connected"] == 1
        for server in ("broker", "database", "authority"):
            ends = metrics[f'orders_certificate_not_after_seconds{{server="{server}"}}']
            assert ends > time.time()

    eventually(counted)

    # And the relay has counted each event that left, with what is left
    def left() -> None:
        metrics = shown(running, "order-relay")
        confirmed = 'orders_event_confirmed_seconds_count{type="order.%s"}'
        assert [metrics[confirmed % t] for t in ("created", "confirmed", "cancelled")] == [4, 2, 1]
        assert metrics["orders_outbox_unsent"] == 0
        assert metrics["orders_database_up"] == 1
        # And for how long it keeps what it shows the age of
        for table, days in (("outbox", 14), ("inbox", 30), ("idempotency_keys", 30)):
            assert metrics[f'orders_retention_seconds{{table="{table}"}}'] == days * 86_400
            assert f'orders_oldest_row_seconds{{table="{table}"}}' in metrics

    eventually(left)

    # And the mailer has no mail left
    def mailed() -> None:
        assert shown(running, "notification-mailer")["orders_mail_waiting"] == 0

    eventually(mailed)


def test_what_waits_is_shown_while_the_broker_is_away(counting: Stack) -> None:
    # Given a relay, and a broker that goes
    counting.start("api", "order-relay", "beat")
    eventually(lambda: _equal(shown(counting, "order-relay")["orders_broker_connected"], 1))
    # whose relay has looked at its outbox once
    eventually(lambda: _shows(counting, "order-relay", "orders_relay_pass_age_seconds"))
    counting.servers.stop_broker()
    try:
        # When an order comes
        counting.place(("TEA", 1))

        # Then the relay shows that its event waits, and why
        def waiting() -> None:
            metrics = shown(counting, "order-relay")
            assert metrics["orders_outbox_unsent"] == 1
            assert metrics["orders_outbox_oldest_unsent_seconds"] > 1
            assert metrics["orders_broker_connected"] == 0

        eventually(waiting)
    finally:
        counting.servers.start_broker()


def test_prometheus_asks_the_broker_of_its_own_authority_only(stack: Stack, tmp_path: Path) -> None:
    # Given another authority
    other = Authority(tmp_path / "other")
    list(other.init())

    for ca_file, up in ((stack.servers.ca_file, 1), (other.certificate_file, 0)):
        # When Prometheus trusts one of both
        with Prometheus.over(stack, tmp_path / f"trusts-{up}", ca_file) as server:
            # Then it reads from the broker, all its metrics, or it does not
            for job in ("rabbitmq", "rabbitmq-queues"):
                query = f'up{{job="{job}"}}'
                eventually(lambda q=query, s=server, n=up: _equal(s.values(q), [n]))


def test_a_metrics_port_that_is_in_use_is_named(counting: Stack) -> None:
    # Given somebody else on the port
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = counting.metrics_ports["order-worker"] = other.getsockname()[1]

        # When the worker starts, then it ends and says why
        with pytest.raises(RuntimeError, match=f"setting METRICS_PORT: {port}: Address already"):
            counting.start("order-worker")


def _some(prometheus: Prometheus, expr: str) -> None:
    assert prometheus.values(expr), expr


def _shows(stack: Stack, process: str, metric: str) -> None:
    assert metric in shown(stack, process)


def _equal(found: object, expected: object) -> None:
    assert found == expected
