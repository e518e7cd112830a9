"""Orders per second that our API accepts, compared with Flask-SQLAlchemy's unit of work."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.system.servers import Stored, empty, process, until
from deploy.local.ports import free_ports
from deploy.local.problem import Problem
from testkit.processes.stack import Stack

_SCRIPT = Path(__file__).with_name("order.lua")
_GUNICORN = ("gunicorn", "--workers", "2", "--threads", "8", "--worker-class", "gthread")

#: The number of connections: one for each thread of the plain API, so no request waits for a
#: thread.
_CONNECTIONS = 16

#: Seconds for a response.
_PATIENCE = 30


def ours(stack: Stack, seconds: int) -> float:
    """Return the orders per second that our API accepts with empty tables."""
    empty(stack)
    return taken(stack, seconds)


def others(stack: Stack, seconds: int) -> float:
    """Return the orders per second of the plain API, on gunicorn."""
    empty(stack)
    with plain_api(stack, stack.directory) as (url, _):
        return load(url, "", seconds=seconds, connections=_CONNECTIONS)


@contextmanager
def plain_api(stored: Stored, logs: Path) -> Iterator[tuple[str, int]]:
    """Run the plain API during the block, and yield its address and its pid."""
    port = free_ports().api_port
    bound = ("--no-control-socket", "--bind", f"127.0.0.1:{port}", "bench.plain.api:create_app()")
    database = stored.databases["order"].settings
    with process(
        [*_GUNICORN, *bound],
        logs / "plain-api.log",
        **{name.upper(): str(value) for name, value in database.items()},
    ) as pid:
        url = f"http://127.0.0.1:{port}"
        until(lambda: _responds(url), "the plain API responds", within=30)
        yield url, pid


def taken(stack: Stack, seconds: int) -> float:
    """Return the orders per second that our API accepts with the present tables."""
    stack.start("api")
    try:
        return load(stack.url, stack.api_key, seconds=seconds, connections=_CONNECTIONS)
    finally:
        stack.kill("api")


def load(url: str, api_key: str, *, seconds: int, connections: int) -> float:
    """Place orders as fast as the API accepts them, and return the orders per second.

    Raises `Problem` unless every order is accepted.
    """
    # The first run is a warm-up.
    for duration in (2, seconds):
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", f"--timeout={_PATIENCE}s"]
        command += ["-s", str(_SCRIPT), url]
        output = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            timeout=duration + 2 * _PATIENCE,
            env={**os.environ, "ORDERS_API_KEY": api_key},
        ).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if "Non-2xx" in output or "Socket errors" in output or not rate:
        raise Problem(f"not all orders were accepted: {output}")
    return float(rate[1])


def _responds(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).status_code > 0
    except httpx.HTTPError:
        return False
