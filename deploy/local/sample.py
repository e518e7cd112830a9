"""Sample stock, and an order that shows the system at work."""

# ruff: noqa: S603, every command is a list of this project's own words

import csv
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from deploy.local import REPOSITORY, credentials
from deploy.local.problem import Problem
from deploy.local.state import StateDirectory

STOCK = Path(__file__).with_name("sample_stock.csv")

#: Seconds an order may take until it is decided; a few hundred milliseconds is usual.
PATIENCE = 30.0


def orderctl(state: StateDirectory, *arguments: str) -> str:
    """Run the operators' command on this run; return what it prints.

    Raises `Problem` with its last words when it fails.
    """
    log = state.log("orderctl")
    administration = dotenv_values(state.operator_environment)
    environment = os.environ | {name: value or "" for name, value in administration.items()}
    done = subprocess.run(
        [REPOSITORY / ".venv/bin/orderctl", *arguments],
        check=False,
        cwd=REPOSITORY,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    with log.open("a") as file:
        file.write(f"$ orderctl {' '.join(arguments)}\n{done.stdout}{done.stderr}")
    if done.returncode != 0:
        words = (done.stderr or done.stdout).strip().splitlines()
        reason = words[-1] if words else f"status {done.returncode}"
        raise Problem(f"orderctl {' '.join(arguments)} failed: {reason}; see {log}")
    return done.stdout


def import_stock(state: StateDirectory) -> None:
    """Fill an empty stock with samples; a stock that holds anything is left alone."""
    if not json.loads(orderctl(state, "stock", "show", "--json")):
        orderctl(state, "stock", "import", str(STOCK))


def make_api_key(state: StateDirectory) -> bool:
    """Make the key with which the user of this machine reaches the API, unless there is one.

    Returns whether it is new.
    """
    file = state.secrets / credentials.API_KEY
    if file.exists() and file.read_text().strip():
        return False
    file.unlink(missing_ok=True)  # empty: the run that should have filled it was killed
    scopes = ("--scope=orders:read", "--scope=orders:write", "--scope=ops")
    # Into a file: what orderctl prints ends in a log.
    orderctl(state, "keys", "create", "local", *scopes, f"--file={file}")
    return True


def place_order(api_url: str, api_key: str, api_log: Path) -> dict[str, Any]:
    """Order one piece of the first sample; return the order once it is decided.

    Raises `Problem` when the API refuses it or nobody decides it in time.
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
