"""The metrics of the processes, and the queries of the dashboards."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.certificates.certificate_authority import Authority
from deploy.grafana.dashboards import DASHBOARDS
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import becomes, eventually
from testkit.network import plain_http
from testkit.processes.stack import Stack
from testkit.servers.prometheus import Prometheus
from testkit.servers.workers import own_ports

(EXPORTER,) = (program for program in PROGRAMS if program.name == "exporter")


@pytest.fixture
def counting(stack: Stack, tmp_path: Path) -> Stack:
    """A system, not started yet, whose processes expose metrics."""
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
    """The same with all its processes, and an inventory that fails as the address specifies."""
    module = "testkit.programs.failing.inventory_worker"
    counting.start("inventory-worker", module=module)
    others = [p.name for p in PROGRAMS if p.name != "inventory-worker" and p.is_installed]
    counting.start(*others)
    return counting


@pytest.fixture
def prometheus(running: Stack, tmp_path: Path) -> Iterator[Prometheus]:
    """A Prometheus that scrapes all of them."""
    with Prometheus.over(running, tmp_path / "prometheus") as server:
        yield server


def metrics_of(stack: Stack, process: str) -> dict[str, float]:
    """Return the metrics that a process exposes."""
    page = plain_http.get(
        f"http://127.0.0.1:{stack.metrics_ports[process]}/metrics", timeout=60
    ).text
    samples = (line.rsplit(" ", 1) for line in page.splitlines() if line[0] != "#")
    return {name: float(value) for name, value in samples}


def place_one_of_each(stack: Stack) -> None:
    """Place an order that succeeds, one that is retried, one that is parked, one out of stock."""
    # In its own batch: an attempt in a failed batch is rolled back, but is one of the two failures.
    stack.decided(stack.place(("TEA", 1), email="twice@example.com"))
    stack.place(("TEA", 1), email="permanent@example.com")
    for order_id in (stack.place(("TEA", 1), email="ada@example.com"), stack.place(("NONE", 1))):
        stack.decided(order_id)


def test_every_panel_has_data_of_a_running_system(running: Stack, prometheus: Prometheus) -> None:
    # Given each kind of order once, in Prometheus
    place_one_of_each(running)
    eventually(lambda: _some(prometheus, "orders_parked_total"))
    eventually(lambda: _some(prometheus, "orders_retries_total"))

    # When they are placed again
    place_one_of_each(running)

    # Then each query of each panel returns a number
    for page in DASHBOARDS:
        for panel in page.panels:
            for query in panel.queries:
                if "celery_" in query.expr and not EXPORTER.is_installed:
                    continue
                expr = query.expr.replace("$__rate_interval", "10m")
                # The slowest rule is evaluated once a minute.
                eventually(lambda e=expr: _some(prometheus, e))


def test_the_metrics_count_events_and_mails(running: Stack) -> None:
    # When orders succeed, are retried, are parked, and are out of stock
    place_one_of_each(running)

    # Then the inventory has counted each attempt by its outcome
    def counted() -> None:
        metrics = metrics_of(running, "inventory-worker")
        handler = 'orders_handler_seconds_count{outcome="%s",type="order.created"}'
        assert metrics[handler % "handled"] == 3
        assert metrics[handler % "failed"] == 3
        assert metrics['orders_event_handled_seconds_count{type="order.created"}'] == 3
        assert metrics['orders_retries_total{tier="0.4s",type="order.created"}'] == 1
        assert metrics['orders_retries_total{tier="0.8s",type="order.created"}'] == 1
        assert metrics['orders_parked_total{reason="Permanent"}'] == 1
        assert metrics["orders_broker_connected"] == 1
        for server in ("broker", "database", "authority"):
            expiry = metrics[f'orders_certificate_not_after_seconds{{server="{server}"}}']
            assert expiry > time.time()

    eventually(counted)

    # And the relay has counted each published event, and exposes the unsent ones
    def published() -> None:
        metrics = metrics_of(running, "order-relay")
        confirmed = 'orders_event_confirmed_seconds_count{type="order.%s"}'
        assert [metrics[confirmed % t] for t in ("created", "confirmed", "cancelled")] == [4, 2, 1]
        assert metrics["orders_outbox_unsent"] == 0
        assert metrics["orders_database_up"] == 1
        # And the retention of each table whose age it exposes
        for table, days in (("outbox", 14), ("inbox", 30), ("idempotency_keys", 30)):
            assert metrics[f'orders_retention_seconds{{table="{table}"}}'] == days * 86_400
            assert f'orders_oldest_row_seconds{{table="{table}"}}' in metrics

    eventually(published)

    # And no email waits in the mailer
    def mailed() -> None:
        assert metrics_of(running, "notification-mailer")["orders_mail_waiting"] == 0

    eventually(mailed)


def test_unsent_events_are_counted_during_a_broker_outage(counting: Stack) -> None:
    # Given a relay that has read its outbox once, and a broker that is down
    counting.start("api", "order-relay", "beat")
    becomes(lambda: metrics_of(counting, "order-relay")["orders_broker_connected"], 1)
    eventually(lambda: _has_metric(counting, "order-relay", "orders_relay_pass_age_seconds"))
    counting.servers.stop_broker()
    try:
        # When an order is placed
        counting.place(("TEA", 1))

        # Then the metrics of the relay show the unsent event and the lost connection
        def waiting() -> None:
            metrics = metrics_of(counting, "order-relay")
            assert metrics["orders_outbox_unsent"] == 1
            assert metrics["orders_outbox_oldest_unsent_seconds"] > 1
            assert metrics["orders_broker_connected"] == 0

        eventually(waiting)
    finally:
        counting.servers.start_broker()


def test_prometheus_scrapes_only_a_broker_that_it_trusts(stack: Stack, tmp_path: Path) -> None:
    # Given another authority
    other = Authority(tmp_path / "other")
    list(other.init())

    for ca_file, up in ((stack.servers.ca_file, 1), (other.certificate_file, 0)):
        # When Prometheus trusts one of the two
        with Prometheus.over(stack, tmp_path / f"trusts-{up}", ca_file) as server:
            # Then it scrapes both endpoints of the broker only if it trusts the broker
            for job in ("rabbitmq", "rabbitmq-queues"):
                query = f'up{{job="{job}"}}'
                becomes(lambda q=query, s=server: s.values(q), [up])


def test_a_metrics_port_in_use_is_reported(counting: Stack) -> None:
    # Given a port in use
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = counting.metrics_ports["order-worker"] = server.getsockname()[1]

        # When the worker starts, then it ends with an error
        with pytest.raises(RuntimeError, match=f"setting METRICS_PORT: {port}: Address already"):
            counting.start("order-worker")


def _some(prometheus: Prometheus, expr: str) -> None:
    assert prometheus.values(expr), expr


def _has_metric(stack: Stack, process: str, metric: str) -> None:
    assert metric in metrics_of(stack, process)
