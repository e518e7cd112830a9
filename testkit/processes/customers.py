"""Customers that order at a steady rate, from whichever API is in service."""

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

#: So many that one of them is free when an order is due: at 50 a second, while answers take less
#: than half a second.
_CLIENTS = 24

#: Orders that may be unfinished before no further one is placed: a machine that is slower than the
#: rate is not given more than it does.
_MOST_UNFINISHED = 200

#: Seconds for an answer.
_PATIENCE = 30.0

#: Seconds until those who are persistent try again.
_PAUSE = 0.1

#: Where they all have their mail.
_DOMAIN = "customers.example"


@dataclass
class Customers:
    """Each order is a connection of its own, to one of the APIs that a load balancer would take."""

    stack: Stack
    #: Orders a second, at most.
    rate: int
    #: Each as `host:port`.
    in_service: list[str]
    #: Whether they try again, with the order's idempotency key, when nobody answers.
    persistent: bool = False
    #: How many orders are finished, decided and mailed say; None if that is not to be waited for.
    finished: Callable[[], int] | None = None
    #: When each order was due (Unix time), by its id.
    placed: dict[str, float] = field(default_factory=dict)
    #: Seconds from when an order was due to its answer.
    answered: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _next_due: float = 0.0
    _under_way: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def ordering(self) -> Iterator[None]:
        """Order for as long as the block lasts."""
        enough = threading.Event()
        numbers = count()
        threads = [
            threading.Thread(target=self._order, args=(numbers, enough)) for _ in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            enough.set()
            for thread in threads:
                thread.join()

    def leave(self, address: str) -> None:
        """Send an API no more orders, and wait until it has answered those that are under way."""
        with self._lock:
            self.in_service.remove(address)

        def idle() -> None:
            assert self._under_way[address] == 0

        eventually(idle)

    def place_more(self, count: int) -> list[str]:
        """Wait until so many orders are placed that were due since this call; returns them."""
        since = time.time()

        def placed() -> list[str]:
            found = [order for order, due in list(self.placed.items()) if due >= since]
            assert self.failures == []
            assert len(found) >= count
            return found

        return eventually(placed)

    def _order(self, numbers: Iterator[int], enough: threading.Event) -> None:
        while not enough.is_set():
            if self.finished and len(self.placed) - self.finished() >= _MOST_UNFINISHED:
                enough.wait(0.05)
                continue
            with self._lock:
                number = next(numbers)
                due = self._next_due = max(self._next_due + 1 / self.rate, time.time())
            time.sleep(max(0.0, due - time.time()))
            with self._lock:
                address = self.in_service[number % len(self.in_service)]
                self._under_way[address] += 1
            try:
                self.placed[self._place(address)] = due
                self.answered.append(time.time() - due)
            except (OSError, HTTPException, AssertionError) as error:
                self.failures.append(f"{address}: {type(error).__name__}: {error}")
            finally:
                with self._lock:
                    self._under_way[address] -= 1

    def _place(self, address: str) -> str:
        key, until = str(uuid4()), time.monotonic() + _PATIENCE
        while True:
            try:
                return self._post(address, key)
            except (OSError, HTTPException):
                # Was it placed? The key tells.
                if not self.persistent or time.monotonic() > until:
                    raise
                time.sleep(_PAUSE)

    def _post(self, address: str, key: str) -> str:
        lines = [{"sku": "TEA", "quantity": 1, "unit_price": 500}]
        # Each a customer of its own: many orders of one look like fraud, and are told of.
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
            answer = connection.getresponse()
            said = answer.read().decode()
            assert answer.status == 201, f"{answer.status} {said}"
            return str(json.loads(said)["id"])
        finally:
            connection.close()

    def assert_all_confirmed_once(self) -> None:
        """Wait until every order is decided and its mails are sent; each must be so once."""
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
        # Not by their headers: parsing thousands of them again and again takes the time in which
        # this process would receive the next mails.
        return len(self.stack.mailbox.messages)

    def waits(self) -> list[float]:
        """Return the seconds from when each order was due to its decision."""
        rows = self.stack.execute(
            "order", "SELECT id || ' ' || extract(epoch FROM decided_at) FROM orders"
        )
        decided = dict(row.split() for row in rows)
        return [float(decided[order]) - due for order, due in self.placed.items()]
