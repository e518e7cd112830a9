"""Sample stock, and an order that demonstrates the system."""

import csv
import json
import os
import time
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import click
import httpx
from dotenv import dotenv_values

from deploy.local.problem import Problem
from deploy.local.servers import credentials
from deploy.local.state import StateDirectory

STOCK = Path(__file__).with_name("sample_stock.csv")

#: Seconds within which an order must be decided; a few hundred milliseconds is usual.
PATIENCE = 30.0


def orderctl(state: StateDirectory, *arguments: str) -> str:
    """Run `orderctl` for this run; return its output.

    It runs in this process, because a start of Python takes longer than most commands. Raises
    `Problem` with the last line of its output if it fails.
    """
    # The import is here, because it takes a second, during which the servers start.
    from console.orderctl import main

    administration = dotenv_values(state.operator_environment)
    # These override the environment of the caller's shell.
    os.environ.update({name: value or "" for name, value in administration.items()})
    log, output, failure = state.log("orderctl"), StringIO(), ""
    try:
        with redirect_stdout(output), redirect_stderr(output):
            status = main.main(arguments, prog_name="orderctl", standalone_mode=False)
        if status:
            failure = (output.getvalue().strip().splitlines() or [f"status {status}"])[-1]
    except click.ClickException as error:
        failure = error.format_message()
    with log.open("a") as file:
        file.write(f"$ orderctl {' '.join(arguments)}\n{output.getvalue()}{failure}\n")
    if failure:
        raise Problem(f"orderctl {' '.join(arguments)} failed: {failure}; see {log}")
    return output.getvalue()


def import_stock(state: StateDirectory) -> None:
    """Import sample stock if there is no stock."""
    if not json.loads(orderctl(state, "stock", "show", "--json")):
        orderctl(state, "stock", "import", str(STOCK))


def make_api_key(state: StateDirectory) -> bool:
    """Create the API key of this machine's user, unless it exists; return whether it is new."""
    file = state.secrets / credentials.API_KEY
    if file.exists() and file.read_text().strip():
        return False
    file.unlink(missing_ok=True)  # the file is empty: the run that created it was killed
    scopes = ("--scope=orders:read", "--scope=orders:write", "--scope=ops")
    # The key is written to a file, because the output of orderctl goes to a log.
    orderctl(state, "keys", "create", "local", *scopes, f"--file={file}")
    return True


def register_console_key(state: StateDirectory) -> None:
    """Register the API key with which the console ships and cancels orders."""
    file = state.secrets / credentials.CONSOLE_KEY
    orderctl(state, "keys", "register", "console", "--scope=orders:operate", f"--file={file}")


def place_order(api_url: str, api_key: str, api_log: Path) -> dict[str, Any]:
    """Order one unit of the first sample; return the order once it is decided.

    Raises `Problem` if the API rejects it or it is not decided in time.
    """
    with STOCK.open(newline="") as file:
        sku = next(csv.DictReader(file))["sku"]
    order = {
        "customer": {"email": "ada@example.com"},
        "currency": "EUR",
        "lines": [{"sku": sku, "quantity": 1, "unit_price": 1290}],
    }
    try:
        bearer = {"Authorization": f"Bearer {api_key}"}
        with httpx.Client(base_url=api_url, headers=bearer, trust_env=False) as api:
            created = api.post("/orders", json=order).raise_for_status()
            return _await_decision(api, created.json()["id"])
    except httpx.HTTPError as error:
        raise Problem(f"the sample order failed: {error}; see {api_log}") from None


def _await_decision(api: httpx.Client, order_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        order: dict[str, Any] = api.get(f"/orders/{order_id}").raise_for_status().json()
        if order["status"] != "PENDING":
            return order
        time.sleep(0.1)
    raise Problem(
        f"the sample order {order_id} is still PENDING after {PATIENCE:.0f} s;"
        " see make status and make logs"
    )
