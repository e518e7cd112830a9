"""Customers that place orders at a steady rate with the APIs in service."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from itertools import count
from uuid import uuid4

from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: Number of clients, of which one is free when an order is due, at 50 orders per second and with
#: responses that take less than half a second.
_CLIENTS = 24

#: The maximum number of unfinished orders: a machine that is slower than the rate must not be
#: overloaded.
_MOST_UNFINISHED = 200

#: Maximum seconds for a response.
_PATIENCE = 30.0

#: Seconds before a retry.
_PAUSE = 0.1

#: The domain of the customers' addresses.
_DOMAIN = "customers.example"


@dataclass
class Customers:
    """Customers that open a connection for each order, balanced over the APIs in turn."""

    stack: Stack
    #: The maximum number of orders per second.
    rate: int
    #: The addresses of the APIs, each as `host:port`.
    in_service: list[str]
    #: Whether a request without a response is retried, with the order's idempotency key.
    persistent: bool = False
    #: A function that returns the number of finished orders; None if orders do not wait for earlier
    #: orders.
    finished: Callable[[], int] | None = None
    #: The due time of each order (Unix time), by its id.
    placed: dict[str, float] = field(default_factory=dict)
    #: Seconds from the due time of each order to its response.
    answered: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _next_due: float = 0.0
    _pending: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def ordering(self) -> Iterator[None]:
        """Place orders during the block."""
        ended = threading.Event()
        numbers = count()
        threads = [
            threading.Thread(target=self._order, args=(numbers, ended)) for _ in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def leave(self, address: str) -> None:
        """Take an API out of service, and wait until no request to it is pending."""
        with self._lock:
            self.in_service.remove(address)

        def idle() -> None:
            assert self._pending[address] == 0

        eventually(idle)

    def place_more(self, count: int) -> list[str]:
        """Wait until `count` orders that are due from now on are placed, and return their ids."""
        since = time.time()

        def placed() -> list[str]:
            # The lock is held, because a dictionary must not grow during an iteration.
            with self._lock:
                orders = [order for order, due in self.placed.items() if due >= since]
            assert self.failures == []
            assert len(orders) >= count
            return orders

        return eventually(placed)

    def _order(self, numbers: Iterator[int], ended: threading.Event) -> None:
        while not ended.is_set():
            if self.finished and len(self.placed) - self.finished() >= _MOST_UNFINISHED:
                ended.wait(0.05)
                continue
            with self._lock:
                number = next(numbers)
                due = self._next_due = max(self._next_due + 1 / self.rate, time.time())
            time.sleep(max(0.0, due - time.time()))
            with self._lock:
                address = self.in_service[number % len(self.in_service)]
                self._pending[address] += 1
            try:
                order_id = self._place(address)
                with self._lock:
                    self.placed[order_id] = due
                self.answered.append(time.time() - due)
            except (OSError, HTTPException, AssertionError) as error:
                self.failures.append(f"{address}: {type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._pending[address] -= 1

    def _place(self, address: str) -> str:
        key, until = str(uuid4()), time.monotonic() + _PATIENCE
        while True:
            try:
                return self._post(address, key)
            except (OSError, HTTPException):
                # The order may have been placed. The key makes a retry safe.
                if not self.persistent or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)

    def _post(self, address: str, key: str) -> str:
        lines = [{"sku": "TEA", "quantity": 1, "unit_price": 500}]
        # Each order has a different customer, because many orders of one customer are suspected and
        # reported.
        customer = {"email": f"{uuid4()}@{_DOMAIN}"}
        order = {"customer": customer, "currency": "EUR", "lines": lines}
        headers = {
            "Authorization": f"Bearer {self.stack.api_key}",
            "Content-Type": "application/json",
            "Connection": "close",
        }
        if self.persistent:
            headers["Idempotency-Key"] = key
        connection = HTTPConnection(address, timeout=_PATIENCE)
        try:
            connection.request("POST", "/orders", json.dumps(order).encode(), headers)
            response = connection.getresponse()
            text = response.read().decode()
            assert response.status == 201, f"{response.status} {text}"
            return str(json.loads(text)["id"])
        finally:
            connection.close()

    def assert_all_confirmed_once(self) -> None:
        """Wait until every order is confirmed and its emails are sent, each exactly once."""
        stack, orders = self.stack, len(self.placed)

        def decided() -> None:
            assert stack.execute("order", "SELECT id FROM orders WHERE status = 'PENDING'") == []

        def mailed() -> None:
            assert self._mails() >= 2 * orders, f"{self._mails()} mails of {orders} orders"

        eventually(decided)
        confirmed = stack.execute("order", "SELECT id::text FROM orders WHERE status = 'CONFIRMED'")
        assert sorted(confirmed) == sorted(self.placed)
        assert stack.reserved("TEA") == orders
        eventually(mailed, progress=self._mails)
        assert len(stack.mails(_DOMAIN)) == len(stack.mailbox.messages) == 2 * orders
        for service in ("order", "inventory", "notification"):
            assert stack.vhost.depth(f"{service}.dlq") == 0

    def _mails(self) -> int:
        # Headers are not used: this process also receives the emails, and would parse thousands of
        # them repeatedly.
        return len(self.stack.mailbox.messages)

    def waits(self) -> list[float]:
        """Return the seconds from the due time of each order to its decision."""
        rows = self.stack.execute(
            "order", "SELECT id || ' ' || extract(epoch FROM decided_at) FROM orders"
        )
        decided = dict(row.split() for row in rows)
        return [float(decided[order]) - due for order, due in self.placed.items()]
