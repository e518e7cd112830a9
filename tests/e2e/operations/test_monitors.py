"""Flower and the exporter: task events of every worker, through outages, from a trusted broker."""

from pathlib import Path

import pytest

from console.actions import topology
from console.certificates.certificate_authority import Authority
from deploy.local.processes.programs import PROGRAMS
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.stack import Stack
from testkit.servers.flower import flower, start_with_flower, task_rows

MONITORS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not installed, reason="not for this version of Python"),
    )
    for name, installed in ((p.name, p.is_installed) for p in PROGRAMS if p.user == "monitor")
]


@pytest.fixture
def watched(stack: Stack) -> Stack:
    """A running system with Flower, and an inventory that fails as the address specifies."""
    return start_with_flower(stack)


def test_unroutable_task_events_delay_no_order(watched: Stack) -> None:
    # Given a broker without the exchange of task events
    watched.vhost.request("DELETE", f"/exchanges/{watched.vhost.name}/celeryev")
    workers = ("order-worker", "inventory-worker", "notification-worker")
    for worker in workers:
        eventually(lambda w=worker: _logs(watched, w, "messages dropped"))

    # When an order is placed
    order_id = watched.place(("TEA", 1))

    # Then it is confirmed, and no worker stops
    assert watched.decided(order_id)[0] == "CONFIRMED"
    assert all(watched.is_running(worker) for worker in workers)

    # And task events are published again when the exchange is restored
    list(topology.apply(watched.broker_admin))
    for worker in workers:
        eventually(lambda w=worker: _logs(watched, w, "publishing resumed"))
        assert watched.log(worker).count(" ready.") == 1, "its consumer was restarted"


def test_a_worker_publishes_no_task_events_when_disabled(watched: Stack) -> None:
    # Given a worker whose task events are disabled
    watched.shut_down("order-worker")
    watched.extra["TASK_EVENTS"] = "false"
    watched.start("order-worker")

    # When an order is confirmed
    order_id = watched.place(("TEA", 1))
    assert watched.decided(order_id)[0] == "CONFIRMED"

    # Then only the other workers' events are listed, although some of them are later
    def listed() -> None:
        names = {row["name"] for row in task_rows(watched) if order_id in row["kwargs"]}
        assert names == {"order.created", "order.confirmed"}

    eventually(listed)


@pytest.mark.parametrize("name", MONITORS[1:])
def test_the_exporter_counts_each_workers_tasks(watched: Stack, name: str) -> None:
    # Given a running exporter
    watched.start(name)
    url = f"http://127.0.0.1:{watched.ports.exporter_port}/metrics"
    eventually(lambda: _has(plain_http.get(url, timeout=60).text, 'up{hostname="inventory"} 1.0'))

    # When an order is decided
    watched.decided(watched.place(("TEA", 1)))

    # Then the tasks of each worker are counted
    def counted() -> None:
        page = plain_http.get(url, timeout=60).text
        for worker, event_type in (
            ("inventory", "order.created"),
            ("notification", "order.created"),
            ("order", "stock.reserved"),
        ):
            labels = f'{{hostname="{worker}",name="{event_type}",queue_name="celery"}}'
            _has(page, f"celery_task_succeeded_total{labels} 1.0")
            _has(page, f'celery_worker_up{{hostname="{worker}"}} 1.0')

    eventually(counted)


@pytest.mark.parametrize("name", MONITORS[1:])
def test_monitors_recover_from_a_broker_outage(watched: Stack, name: str) -> None:
    # Given a broker outage
    watched.start(name)
    watched.servers.stop_broker()
    try:
        eventually(lambda: _logs(watched, "flower", "task events interrupted"))
    finally:
        watched.servers.start_broker()

    # Then both receive the events of all workers again
    def recovered() -> None:
        page = flower(watched, "/metrics").text
        exported = plain_http.get(
            f"http://127.0.0.1:{watched.ports.exporter_port}/metrics", timeout=60
        ).text
        assert watched.is_running("flower")
        assert watched.is_running(name)
        for worker in ("order", "inventory", "notification"):
            _has(page, f'flower_worker_online{{worker="{worker}@{worker}"}} 1.0')
            _has(exported, f'celery_worker_up{{hostname="{worker}"}} 1.0')

    eventually(recovered)
    order_id = watched.place(("TEA", 1))
    watched.decided(order_id)
    eventually(lambda: _has(str(task_rows(watched)), order_id))
    page = f"http://127.0.0.1:{watched.ports.exporter_port}/metrics"
    success = 'task_succeeded_total{hostname="order",name="stock.reserved",queue_name="celery"} 1.0'
    eventually(lambda: _has(plain_http.get(page, timeout=60).text, success))


@pytest.mark.parametrize("name", MONITORS)
@pytest.mark.parametrize("wrong", ["authority", "host name"])
def test_a_monitor_rejects_an_untrusted_broker(
    stack: Stack, tmp_path: Path, name: str, wrong: str
) -> None:
    # Given another authority, or another host name
    if wrong == "authority":
        other = Authority(tmp_path / "other")
        list(other.init())
        stack.extra["BROKER_CA_FILE"] = str(other.certificate_file)
    else:
        stack.extra["BROKER_SERVER_HOSTNAME"] = "elsewhere.example"

    # When the monitor is started
    stack.start(name)

    # Then it rejects the certificate, and sends no password
    eventually(lambda: _logs(stack, name, "certificate verify failed"))
    password = (stack.servers.secrets_dir / "monitor.broker").read_text().strip()
    assert password not in stack.log(name)


def _logs(stack: Stack, name: str, text: str) -> None:
    _has(stack.log(name), text)


def _has(page: str, text: str) -> None:
    assert text in page
