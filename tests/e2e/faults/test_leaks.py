"""Connections, channels, files, sessions and memory do not grow with the number of orders."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from common.kombu_topology import DATABASES
from deploy.local.processes.programs import PROGRAMS, Health
from testkit.eventually import eventually
from testkit.processes.stack import Stack

log = logging.getLogger(__name__)

#: Clients that order at once.
CLIENTS = 4

#: The permitted growth of one program's files and database sessions: one of the API's two processes
#: may have received its fourth concurrent request, and so opened its fourth connection, only now. A
#: leak grows without limit: the short run detects one for every fifty orders, the long run one for
#: every five hundred.
FILES = SESSIONS = 2 * CLIENTS

#: The permitted growth of one program's memory in kilobytes: fragmentation may let it grow
#: a little indefinitely. Measured in a short run: at most 1,032, and 2 more files and sessions.
#: An event and its objects take about 20 kB: a leak of 500 events is barely detected, of 5,000
#: certainly.
MEMORY = 10_000


@dataclass(frozen=True)
class Usage:
    """The resources of an idle system."""

    connections: int
    channels: int
    sessions: dict[str, int]
    files: dict[str, int]
    #: Kilobytes.
    memory: dict[str, int]


@pytest.mark.timeout(3_600)
def test_no_resource_grows_with_the_number_of_orders(
    stack: Stack, pytestconfig: pytest.Config
) -> None:
    # Given a system that has handled half of the orders
    half = pytestconfig.getoption("leak_orders") // 2
    stack.stock(TEA=10 * half)
    stack.trace()
    # The API starts a thread of some megabytes when it needs one: here it needs few. A request
    # counts until a moment after its response.
    stack.extra["API_QUEUE_LIMIT"] = str(4 * CLIENTS)
    stack.start()
    # More clients than later: every thread and every session exists afterwards.
    _place(stack, half, clients=2 * CLIENTS)
    _settle(stack, half)
    before = _usage(stack)

    # When the other half is placed
    _place(stack, half, clients=CLIENTS)
    _settle(stack, 2 * half)
    after = _usage(stack)

    # Then it has no more resources than before
    log.info("before %s, after %s", before, after)
    assert (after.connections, after.channels) == (before.connections, before.channels)
    assert _grown(before.sessions, after.sessions, SESSIONS) == {}
    assert _grown(before.files, after.files, FILES) == {}
    assert _grown(before.memory, after.memory, MEMORY) == {}


def _place(stack: Stack, orders: int, *, clients: int) -> None:
    def place(client: httpx.Client, count: int) -> None:
        for _ in range(count):
            # A different customer each: many orders of one customer are suspected and reported.
            order = {
                "customer": {"email": f"{uuid4()}@example.com"},
                "currency": "EUR",
                "lines": [{"sku": "TEA", "quantity": 1, "unit_price": 500}],
            }
            response = client.post("/orders", json=order, timeout=60)
            assert response.status_code == 201, response.text

    api_clients = [stack.client for _ in range(clients)]
    counts = [orders // clients + (number < orders % clients) for number in range(clients)]
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(place, api_clients, counts))
    for client in api_clients:
        client.close()


def _settle(stack: Stack, orders: int) -> None:
    """Wait until every order is confirmed and every email is sent."""

    def sent() -> list[int]:
        return stack.execute(
            "notification", "SELECT count(*) FROM notifications WHERE status = 'SENT'"
        )

    def settled() -> None:
        confirmed = stack.execute("order", "SELECT count(*) FROM orders WHERE status = 'CONFIRMED'")
        assert confirmed == [orders]
        assert sent() == [2 * confirmed[0]]

    eventually(settled, progress=sent)


def _usage(stack: Stack) -> Usage:
    """Return the usage once two samples agree: the broker's figures are seconds old."""
    samples: list[tuple[int, int]] = []

    def steady() -> tuple[int, int]:
        samples.append((_count(stack, "connections"), _count(stack, "channels")))
        assert len(samples) > 1
        assert samples[-1] == samples[-2]
        assert all(samples[-1])
        return samples[-1]

    connections, channels = eventually(steady)
    pids = stack.pids()
    # Without Flower and the other monitoring, which keeps tasks up to a limit that no test
    # reaches, and without the console, which takes no part in an order.
    counted = {p.name for p in PROGRAMS if p.health is not Health.METRICS} - {"console"}
    assert set(pids) == counted
    return Usage(
        connections=connections,
        channels=channels,
        sessions={service.name: _sessions(stack, service.name) for service in DATABASES},
        files={name: sum(map(_files, group)) for name, group in pids.items()},
        memory={name: sum(map(_memory, group)) for name, group in pids.items()},
    )


def _count(stack: Stack, kind: str) -> int:
    return len(stack.vhost.request("GET", f"/vhosts/{stack.vhost.name}/{kind}").json())


def _sessions(stack: Stack, service: str) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    (count,) = stack.execute(service, query)
    return int(count)


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _grown(before: dict[str, int], after: dict[str, int], limit: int) -> dict[str, tuple[int, int]]:
    """Return the resources that have grown by more than the limit."""
    return {n: (before[n], after[n]) for n in after if after[n] - before[n] > limit}
