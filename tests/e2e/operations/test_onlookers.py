"""Flower and the exporter hear every worker, also after trouble, and of the right broker only."""

from pathlib import Path

import httpx
import pytest

from console.actions import topology
from console.certificates.certificate_authority import Authority
from deploy.local.processes.programs import PROGRAMS
from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.servers.flower import flower, start_with_flower, task_rows

ONLOOKERS = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(not installed, reason="not for this version of Python"),
    )
    for name, installed in ((p.name, p.is_installed) for p in PROGRAMS if p.user == "monitor")
]


@pytest.fixture
def watched(stack: Stack) -> Stack:
    """A running system, with Flower, and an inventory that fails as the address asks for."""
    return start_with_flower(stack)


def test_events_that_nobody_takes_hold_up_no_order(watched: Stack) -> None:
    # given that the exchange of the task events is gone
    watched.vhost.request("DELETE", f"/exchanges/{watched.vhost.name}/celeryev")
    workers = ("order-worker", "inventory-worker", "notification-worker")
    for worker in workers:
        eventually(lambda w=worker: _says(watched, w, "messages dropped"))

    # when
    order_id = watched.place(("TEA", 1))

    # then
    assert watched.decided(order_id)[0] == "CONFIRMED"
    assert all(watched.is_running(worker) for worker in workers)

    # And they leave again once it is back
    list(topology.apply(watched.broker_admin))
    for worker in workers:
        eventually(lambda w=worker: _says(watched, w, "publishing resumed"))
        assert watched.log(worker).count(" ready.") == 1, "its consumer has not started again"


def test_a_worker_tells_nothing_when_it_is_told_so(watched: Stack) -> None:
    # given
    watched.shut_down("order-worker")
    watched.extra["TASK_EVENTS"] = "false"
    watched.start("order-worker")

    # when
    order_id = watched.place(("TEA", 1))
    assert watched.decided(order_id)[0] == "CONFIRMED"

    # then the others' rows are there, which come later than its own would have
    def shown() -> None:
        names = {row["name"] for row in task_rows(watched) if order_id in row["kwargs"]}
        assert names == {"order.created", "order.confirmed"}

    eventually(shown)


@pytest.mark.parametrize("name", ONLOOKERS[1:])
def test_the_exporter_counts_each_workers_tasks(watched: Stack, name: str) -> None:
    # given
    watched.start(name)
    url = f"http://127.0.0.1:{watched.ports.exporter_port}/metrics"
    eventually(lambda: _has(httpx.get(url, timeout=10).text, 'up{hostname="inventory"} 1.0'))

    # when
    watched.decided(watched.place(("TEA", 1)))

    # then
    def counted() -> None:
        page = httpx.get(url, timeout=10).text
        for worker, event_type in (
            ("inventory", "order.created"),
            ("notification", "order.created"),
            ("order", "stock.reserved"),
        ):
            labels = f'{{hostname="{worker}",name="{event_type}",queue_name="celery"}}'
            _has(page, f"celery_task_succeeded_total{labels} 1.0")
            _has(page, f'celery_worker_up{{hostname="{worker}"}} 1.0')

    eventually(counted)


@pytest.mark.parametrize("name", ONLOOKERS[1:])
def test_onlookers_are_back_after_the_broker_was_away(watched: Stack, name: str) -> None:
    # given
    watched.start(name)
    watched.servers.stop_broker()
    try:
        eventually(lambda: _says(watched, "flower", "task events interrupted"))
    finally:
        watched.servers.start_broker()

    # then both hear all workers again
    def heard() -> None:
        page = flower(watched, "/metrics").text
        exported = httpx.get(
            f"http://127.0.0.1:{watched.ports.exporter_port}/metrics", timeout=10
        ).text
        assert watched.is_running("flower")
        assert watched.is_running(name)
        for worker in ("order", "inventory", "notification"):
            _has(page, f'flower_worker_online{{worker="{worker}@{worker}"}} 1.0')
            _has(exported, f'celery_worker_up{{hostname="{worker}"}} 1.0')

    eventually(heard)
    order_id = watched.place(("TEA", 1))
    watched.decided(order_id)
    eventually(lambda: _has(str(task_rows(watched)), order_id))
    page = f"http://127.0.0.1:{watched.ports.exporter_port}/metrics"
    success = 'task_succeeded_total{hostname="order",name="stock.reserved",queue_name="celery"} 1.0'
    eventually(lambda: _has(httpx.get(page, timeout=10).text, success))


@pytest.mark.parametrize("name", ONLOOKERS)
@pytest.mark.parametrize("wrong", ["authority", "host name"])
def test_an_onlooker_refuses_a_broker_that_it_cannot_be_sure_of(
    stack: Stack, tmp_path: Path, name: str, wrong: str
) -> None:
    # given
    if wrong == "authority":
        other = Authority(tmp_path / "other")
        list(other.init())
        stack.extra["BROKER_CA_FILE"] = str(other.certificate_file)
    else:
        stack.extra["BROKER_SERVER_HOSTNAME"] = "elsewhere.example"

    # when
    stack.start(name)

    # then
    eventually(lambda: _says(stack, name, "certificate verify failed"))
    password = (stack.servers.secrets_dir / "monitor.broker").read_text().strip()
    assert password not in stack.log(name)


def _says(stack: Stack, name: str, text: str) -> None:
    _has(stack.log(name), text)


def _has(page: str, text: str) -> None:
    assert text in page
