"""A database that stops responding: the API answers every request, and resumes by itself."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import httpx
import pytest

from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.network.proxy import Proxy
from testkit.network.raw_http import ORDER
from testkit.processes.stack import Stack

#: More clients than both processes have threads, and the seconds between two requests of each.
CLIENTS = 60
PAUSE = 0.3

#: Requests of a client, in turn.
REQUESTS = (("POST", "/orders"), ("GET", "/orders"), ("GET", "/readyz"), ("POST", "/orders"))

#: Seconds that Kubernetes waits for a probe, and failures in a row after which it kills the pod.
PROBE_TIMEOUT, PROBE_FAILURES = 5, 3


@pytest.fixture
def proxy(stack: Stack) -> Iterator[Proxy]:
    """A proxy between the API and its database."""
    proxy = Proxy(stack.servers.postgres_port)
    yield proxy
    proxy.stop()


@contextmanager
def clients(stack: Stack) -> Iterator[Counter[int]]:
    """Send requests during the block, and count the statuses of their responses."""
    statuses: Counter[int] = Counter()
    ended = Event()

    def run(number: int) -> None:
        with stack.client as client:
            while not ended.wait(PAUSE):
                method, path = REQUESTS[number % len(REQUESTS)]
                content = ORDER if method == "POST" else None
                headers = {"Content-Type": "application/json"}
                response = client.request(method, path, content=content, headers=headers)
                statuses[response.status_code] += 1
                number += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        running = [pool.submit(run, number) for number in range(CLIENTS)]
        try:
            yield statuses
        finally:
            ended.set()
    for client in running:
        client.result()


def test_liveness_is_answered_while_the_database_does_not_respond(
    stack: Stack, proxy: Proxy
) -> None:
    # Given an API with fewer threads than clients, under load
    stack.extra |= {
        "DATABASE_PORT": str(proxy.port),
        "API_QUEUE_LIMIT": "5",
        "API_READ_LIMIT": "5",
        "API_KEY_LIFETIME": "1",
    }
    stack.start("api")
    with clients(stack) as statuses:
        eventually(lambda: _assert_served(statuses, 201))

        # When the database stops responding, and the connections to it remain open
        proxy.hold_responses()
        eventually(lambda: _assert_served(statuses, 503, at_least=CLIENTS))

        # Then the API remains alive: Kubernetes would not kill it
        failures = [0]
        for _ in range(4 * PROBE_FAILURES):
            failures.append(0 if _is_alive(stack) else failures[-1] + 1)
            assert max(failures) < PROBE_FAILURES

        # And orders are placed again when the database responds again
        proxy.release_responses()
        placed = statuses[201]
        eventually(lambda: _assert_served(statuses, 201, at_least=placed + CLIENTS))

    # And each response was that of an outage, or a success
    assert set(statuses) == {200, 201, 503}


def _is_alive(stack: Stack) -> bool:
    try:
        return plain_http.get(f"{stack.url}/healthz", timeout=PROBE_TIMEOUT).status_code == 200
    except httpx.TransportError:
        return False


def _assert_served(statuses: Counter[int], status: int, *, at_least: int = 1) -> None:
    assert statuses[status] >= at_least
