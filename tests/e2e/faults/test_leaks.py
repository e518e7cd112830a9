"""Nothing grows with the number of orders: connections, channels, files, sessions, memory."""

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

#: Files and database sessions of one program: one of the API's two processes may have got its
#: fourth request at once, and so its fourth connection, only now. A leak grows without end: one in
#: fifty orders is found by the short run, one in five hundred by the long one.
FILES = SESSIONS = 2 * CLIENTS

#: Kilobytes of one program, which may grow a little for ever by fragmentation. Measured in a short
#: run: 1,032 at most, and 2 more files and sessions. An event with all that is made of it has some
#: 20 kB: to keep each of 500 is just found, each of 5,000 certainly.
MEMORY = 10_000


@dataclass(frozen=True)
class Usage:
    """What the system holds when it has nothing to do."""

    connections: int
    channels: int
    sessions: dict[str, int]
    files: dict[str, int]
    #: Kilobytes.
    memory: dict[str, int]


@pytest.mark.timeout(3_600)
def test_nothing_grows_with_the_number_of_orders(stack: Stack, pytestconfig: pytest.Config) -> None:
    # Given a system that has found its size in half of the orders
    half = pytestconfig.getoption("leak_orders") // 2
    stack.stock(TEA=10 * half)
    stack.trace()
    # The API begins a thread, some megabytes, when it needs one: here it needs few. An answered
    # request is under way for a moment more.
    stack.extra["API_QUEUE_LIMIT"] = str(4 * CLIENTS)
    stack.start()
    # by more clients than there will be: each thread and each session is there then
    _place(stack, half, clients=2 * CLIENTS)
    _settle(stack, half)
    before = _usage(stack)

    # When the other half comes
    _place(stack, half, clients=CLIENTS)
    _settle(stack, 2 * half)
    after = _usage(stack)

    # Then it holds what it held before
    log.info("before %s, after %s", before, after)
    assert (after.connections, after.channels) == (before.connections, before.channels)
    assert _grown(before.sessions, after.sessions, SESSIONS) == {}
    assert _grown(before.files, after.files, FILES) == {}
    assert _grown(before.memory, after.memory, MEMORY) == {}


def _place(stack: Stack, orders: int, *, clients: int) -> None:
    def place(client: httpx.Client, count: int) -> None:
        for _ in range(count):
            # Each a customer of its own: many orders of one look like fraud, and are told of.
            order = {
                "customer": {"email": f"{uuid4()}@example.com"},
                "currency": "EUR",
                "lines": [{"sku": "TEA", "quantity": 1, "unit_price": 500}],
            }
            response = client.post("/orders", json=order, timeout=60)
            assert response.status_code == 201, response.text

    used = [stack.client for _ in range(clients)]
    counts = [orders // clients + (number < orders % clients) for number in range(clients)]
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(place, used, counts))
    for client in used:
        client.close()


def _settle(stack: Stack, orders: int) -> None:
    """Wait until every order is confirmed and every mail is sent."""

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
    """Look until two looks agree: the broker's figures are seconds old."""
    looks: list[tuple[int, int]] = []

    def steady() -> tuple[int, int]:
        looks.append((_count(stack, "connections"), _count(stack, "channels")))
        assert len(looks) > 1
        assert looks[-1] == looks[-2]
        assert all(looks[-1])
        return looks[-1]

    connections, channels = eventually(steady)
    pids = stack.pids()
    # All but Flower, which keeps what it shows up to a number that no test reaches, and its like,
    # and the console, which no order passes.
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
    own = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    (count,) = stack.execute(service, own)
    return int(count)


def _files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _grown(before: dict[str, int], after: dict[str, int], most: int) -> dict[str, tuple[int, int]]:
    """What has grown by more than so much."""
    return {n: (before[n], after[n]) for n in after if after[n] - before[n] > most}
