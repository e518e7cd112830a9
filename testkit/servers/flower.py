"""Flower over a running system."""

from typing import Any

import httpx

from deploy.local.servers import credentials
from testkit.network import plain_http
from testkit.processes.stack import Stack


def flower_password(stack: Stack) -> str:
    """Return the operator's password."""
    return (stack.servers.secrets_dir / credentials.FLOWER).read_text().strip()


def flower(stack: Stack, path: str, password: str | None = None) -> httpx.Response:
    """Request a page of Flower as the operator, optionally with another password."""
    url = f"http://127.0.0.1:{stack.ports.flower_port}{path}"
    return plain_http.get(url, auth=("operator", password or flower_password(stack)), timeout=60)


def task_rows(stack: Stack) -> list[dict[str, Any]]:
    """Return every task that Flower lists."""
    return list(flower(stack, "/api/tasks").raise_for_status().json().values())


def start_with_flower(stack: Stack) -> Stack:
    """Start Flower and a system whose inventory fails as the customer's address specifies."""
    stack.stock(TEA=100)
    stack.start("flower")
    stack.start_failing()
    stack.start(
        "api", "order-worker", "order-relay", "inventory-relay", "notification-worker", "beat"
    )
    return stack
