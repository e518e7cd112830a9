"""Flower shows the workers and their tasks, and nothing that is not theirs."""

import httpx
import pytest

from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.servers.flower import flower, flower_password, start_with_flower, task_rows


@pytest.fixture(scope="module")
def shown(shared_stack: Stack) -> Stack:
    """A running system, with Flower, for tests that only order and look."""
    return start_with_flower(shared_stack)


def test_an_event_is_one_row_for_each_service_that_handles_it(shown: Stack) -> None:
    # when
    order_id = shown.place(("TEA", 1))
    assert shown.decided(order_id)[0] == "CONFIRMED"

    # then both consumers of the event have a row of their own, found by the order's id
    def visible() -> None:
        handled = {
            (row["name"], row["worker"], row["state"], row["result"])
            for row in task_rows(shown)
            if order_id in row["kwargs"]
        }
        assert handled == {
            ("order.created", "inventory@inventory", "SUCCESS", "'handled'"),
            ("order.created", "notification@notification", "SUCCESS", "'handled'"),
            ("stock.reserved", "order@order", "SUCCESS", "'handled'"),
            ("order.confirmed", "notification@notification", "SUCCESS", "'handled'"),
        }

    eventually(visible)


def test_no_row_tells_of_a_customer(shown: Stack) -> None:
    # when an order is handled, one is tried again, and one is parked
    for name in ("ada.lovelace", "twice", "permanent"):
        shown.place(("TEA", 1), email=f"{name}@customer.example")

    # then Flower shows how each ended
    def ended() -> None:
        states = {row["state"] for row in task_rows(shown) if row["name"] == "order.created"}
        assert states >= {"SUCCESS", "FAILURE"}
        assert flower(shown, "/metrics").text.count('type="task-retried"') > 0

    eventually(ended)

    # And nothing of what was ordered, by whom
    for row in task_rows(shown):
        assert "customer.example" not in str(row)
        assert "TEA" not in str(row)
        assert row["args"] == "()"
        assert row["traceback"] is None


def test_flower_asks_for_a_password_and_takes_no_command(shown: Stack) -> None:
    url = f"http://127.0.0.1:{shown.ports.flower_port}"
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers"):
        assert httpx.get(f"{url}{path}", timeout=10).status_code == 401, path
        assert flower(shown, path, password="wrong").status_code == 401, path
        assert flower(shown, path).status_code == 200, path

    # And the right password is no way to stop a worker
    password = flower_password(shown)
    for command in ("worker/shutdown/order@order", "task/send-task/order.created"):
        refused = httpx.post(
            f"{url}/api/{command}", auth=("operator", password), json={"args": []}, timeout=10
        )
        assert refused.status_code == 403, command


def test_flower_shows_how_full_the_queues_are(shown: Stack) -> None:
    page = flower(shown, "/broker").text

    assert "inventory.queue" in page
    assert "management API call failed" not in shown.log("flower")
