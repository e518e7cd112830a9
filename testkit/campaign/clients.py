"""Clients in an open loop, which send a request when it is due, without awaiting responses."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from random import Random

import httpx

from testkit.campaign.history import Action, History, Outcome, Request
from testkit.processes.stack import Stack

#: Maximum number of requests in progress. At 10 orders per second and 10 seconds for a response,
#: there are never more.
_CLIENTS = 128

#: Maximum seconds for a response, within which every request must end.
_TIMEOUT = 10.0

#: Number of attempts of a request with an idempotency key, and seconds between two attempts.
_ATTEMPTS, _PAUSE = 8, 1.0

#: Number of orders that are placed after an order before it may be shipped, because it is then most
#: likely decided.
_SHIPPED_AFTER = 20

#: Outcomes by precedence: if a request has several attempts, its outcome is the first of these.
_STRONGEST = (Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED)

#: The domain of the customers' addresses.
DOMAIN = "campaign.example"


class Clients:
    """Clients of one API, whose requests are decided by a seed and by their numbers."""

    def __init__(self, stack: Stack, history: History, seed: int, *, rate: float) -> None:
        """`rate` is the number of orders per second."""
        self._history = history
        self._seed = seed
        self._rate = rate
        self._http = stack.client
        self._http.timeout = _TIMEOUT

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @contextmanager
    def ordering(self, most: int) -> Iterator[None]:
        """Place at most `most` orders during the block, and wait for the responses at its end."""
        ended = threading.Event()
        sent: list[Future[Request]] = []
        with ThreadPoolExecutor(_CLIENTS) as threads:

            def arrive() -> None:
                began = time.monotonic()
                for number in range(most):
                    if ended.wait(max(0.0, began + number / self._rate - time.monotonic())):
                        return
                    sent.append(threads.submit(self.order, number))

            arrivals = threading.Thread(target=arrive)
            arrivals.start()
            try:
                yield
            finally:
                ended.set()
                arrivals.join()
        for request in sent:
            request.result()

    def order(self, number: int) -> Request:
        """Place the order with this number, and perhaps cancel it, or ship an earlier order."""
        rng = Random(f"{self._seed}/{number}")
        placed = self._place(number, rng)
        choice = rng.random()
        if choice < 0.12 and placed.outcome is Outcome.OK:
            time.sleep(rng.choice((0.0, 0.02, 0.5)))
            self._change(Action.CANCEL, placed.order_id)
        elif choice < 0.3 and (earlier := self._history.placed()[:-_SHIPPED_AFTER]):
            self._change(Action.SHIP, rng.choice(earlier))
        return placed

    def _place(self, number: int, rng: Random) -> Request:
        email = f"{self._seed}.{number}@{DOMAIN}"
        lines = [{"sku": "TEA", "quantity": _quantity(rng), "unit_price": 500}]
        if rng.random() < 0.15:
            lines.append({"sku": "KETTLE", "quantity": 1, "unit_price": 4_000})
        order = {"customer": {"email": email}, "currency": "EUR", "lines": lines}
        has_key = rng.random() < 0.5
        headers = {"Idempotency-Key": f"{self._seed}-{number}"} if has_key else {}
        began, attempts = time.time(), _ATTEMPTS if has_key else 1
        responses: list[httpx.Response | Outcome] = []
        for attempt in range(attempts):
            if attempt:
                time.sleep(_PAUSE)
            responses.append(self._post("/orders", order, headers))
            if _outcome(responses[-1]) is Outcome.OK:
                break
        return self._record(Action.PLACE, began, responses, email=email)

    def _change(self, action: Action, order_id: str) -> None:
        began = time.time()
        response = self._post(f"/orders/{order_id}/{action}", None, {})
        self._record(action, began, [response], order_id=order_id)

    def _post(self, path: str, body: object, headers: dict[str, str]) -> httpx.Response | Outcome:
        try:
            return self._http.post(path, json=body, headers=headers)
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return Outcome.FAILED
        except httpx.TransportError:
            return Outcome.UNKNOWN

    def _record(
        self,
        action: Action,
        began: float,
        responses: list[httpx.Response | Outcome],
        *,
        email: str = "",
        order_id: str = "",
    ) -> Request:
        outcomes = {_outcome(response) for response in responses}
        # A single attempt that may have had an effect is sufficient.
        outcome = next(each for each in _STRONGEST if each in outcomes)
        last = responses[-1]
        if outcome is Outcome.OK and isinstance(last, httpx.Response):
            order_id = str(last.json()["id"])
        request = Request(
            action=action,
            outcome=outcome,
            email=email,
            order_id=order_id,
            statuses=tuple(_status(response) for response in responses),
            began=began,
            ended=time.time(),
        )
        self._history.append(request)
        return request


def _quantity(rng: Random) -> int:
    # Orders of more than fifty units are suspected by the fraud check.
    return 60 if rng.random() < 0.03 else rng.randint(1, 3)


def _outcome(response: httpx.Response | Outcome) -> Outcome:
    if isinstance(response, Outcome):
        return response
    if response.is_success:
        return Outcome.OK
    # A 503 may follow a commit whose reply was lost.
    return Outcome.UNKNOWN if response.is_server_error else Outcome.FAILED


def _status(response: httpx.Response | Outcome) -> int:
    return response.status_code if isinstance(response, httpx.Response) else 0
