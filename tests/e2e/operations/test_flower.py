"""Flower: the workers and their tasks, read-only, without data of customers."""

import httpx
import pytest

from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.stack import Stack
from testkit.servers.flower import flower, flower_password, start_with_flower, task_rows


@pytest.fixture(scope="module")
def shown(shared_stack: Stack) -> Stack:
    """A running system with Flower, for tests that only place orders."""
    return start_with_flower(shared_stack)


def test_an_event_is_one_row_for_each_service_that_handles_it(shown: Stack) -> None:
    # When an order is confirmed
    order_id = shown.place(("TEA", 1))
    assert shown.decided(order_id)[0] == "CONFIRMED"

    # Then each service has its own row for each event of the order
    def visible() -> None:
        order_rows = {
            (row["name"], row["worker"], row["state"], row["result"])
            for row in task_rows(shown)
            if order_id in row["kwargs"]
        }
        assert order_rows == {
            ("order.created", "inventory@inventory", "SUCCESS", "'handled'"),
            ("order.created", "notification@notification", "SUCCESS", "'handled'"),
            ("stock.reserved", "order@order", "SUCCESS", "'handled'"),
            ("order.confirmed", "notification@notification", "SUCCESS", "'handled'"),
        }

    eventually(visible)


def test_no_row_contains_data_of_a_customer(shown: Stack) -> None:
    # When one order is handled, one is retried, and one is parked
    for name in ("ada.lovelace", "twice", "permanent"):
        shown.place(("TEA", 1), email=f"{name}@customer.example")

    # Then Flower lists each outcome
    def ended() -> None:
        states = {row["state"] for row in task_rows(shown) if row["name"] == "order.created"}
        assert states >= {"SUCCESS", "FAILURE"}
        assert flower(shown, "/metrics").text.count('type="task-retried"') > 0

    eventually(ended)

    # And no row contains the customer or the order's lines
    for row in task_rows(shown):
        assert "customer.example" not in str(row)
        assert "TEA" not in str(row)
        assert row["args"] == "()"
        assert row["traceback"] is None


def test_flower_requires_a_password_and_rejects_commands(shown: Stack) -> None:
    url = f"http://127.0.0.1:{shown.ports.flower_port}"
    for path in ("/", "/tasks", "/broker", "/api/tasks", "/api/workers"):
        assert plain_http.get(f"{url}{path}", timeout=60).status_code == 401, path
        assert flower(shown, path, password="wrong").status_code == 401, path
        assert flower(shown, path).status_code == 200, path

    # And the password does not permit commands to a worker
    password = flower_password(shown)
    for command in ("worker/shutdown/order@order", "task/send-task/order.created"):
        response = httpx.post(
            f"{url}/api/{command}", auth=("operator", password), json={"args": []}, timeout=60
        )
        assert response.status_code == 403, command


def test_flower_lists_the_depth_of_each_queue(shown: Stack) -> None:
    page = flower(shown, "/broker").text

    assert "inventory.queue" in page
    assert "management API call failed" not in shown.log("flower")
