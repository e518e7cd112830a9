"""Clients that place orders at a steady rate, in a separate process without other work.

`python -m bench.load.clients <host:port> <orders per second> <seconds>` prints each order's id and
due time (Unix time) as JSON. The API key is in the environment variable ORDERS_API_KEY.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException
from uuid import uuid4

from bench.system.measured import Measured
from bench.system.servers import SKUS
from deploy.local import REPOSITORY
from deploy.local.problem import Problem

#: Seconds for a response.
_PATIENCE = 60.0


def order(measured: Measured, rate: float, seconds: int) -> dict[str, float]:
    """Place orders at this rate, and return the due time of each (Unix time), by its id."""
    address = measured.url.removeprefix("http://")
    result = subprocess.run(
        [sys.executable, "-m", "bench.load.clients", address, str(rate), str(seconds)],
        cwd=REPOSITORY,
        env={"ORDERS_API_KEY": measured.api_key, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 2 * _PATIENCE,
    )
    if result.returncode:
        raise Problem(f"not all orders were accepted: {result.stderr.strip().splitlines()[-1]}")
    due: dict[str, float] = json.loads(result.stdout)
    return due


class _Clients:
    """Enough clients for one to be free when an order is due."""

    def __init__(self, address: str, key: str, rate: float, seconds: int) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._rate = rate
        self._numbers: Iterator[int] = iter(range(round(rate * seconds)))
        self._lock = threading.Lock()
        self._started = time.time() + 0.5
        self.due: dict[str, float] = {}
        self.failures: list[str] = []

    def run(self) -> None:
        number = min(64, max(4, int(self._rate // 10)))
        threads = [threading.Thread(target=self._client) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self) -> None:
        connection = HTTPConnection(self._address, timeout=_PATIENCE)
        while (number := self._next()) is not None:
            # The due time does not depend on earlier responses. The latency starts at the due time,
            # and includes the wait for a free client.
            due = self._started + number / self._rate
            time.sleep(max(0.0, due - time.time()))
            try:
                connection.request("POST", "/orders", _body(number), self._headers)
                response = connection.getresponse()
                text = response.read().decode()
            except (OSError, HTTPException) as error:
                self.failures.append(f"{type(error).__name__}: {error}")
                return
            if response.status != 201:
                self.failures.append(text)
                return
            self.due[json.loads(text)["id"]] = due

    def _next(self) -> int | None:
        with self._lock:
            return None if self.failures else next(self._numbers, None)


def _body(number: int) -> bytes:
    lines = [{"sku": SKUS[number % len(SKUS)], "quantity": 1, "unit_price": 500}]
    # Each order has a different customer, see order.lua.
    customer = {"email": f"{uuid4()}@example.com"}
    order = {"customer": customer, "currency": "EUR", "lines": lines}
    return json.dumps(order).encode()


def main() -> None:
    """Run the clients, and print the ids and due times of their orders."""
    address, rate, seconds = sys.argv[1:]
    clients = _Clients(address, os.environ["ORDERS_API_KEY"], float(rate), int(seconds))
    clients.run()
    if clients.failures:
        sys.exit(clients.failures[0])
    json.dump(clients.due, sys.stdout)


if __name__ == "__main__":
    main()
