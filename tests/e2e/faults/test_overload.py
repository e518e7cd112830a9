"""Load shedding: excess requests are refused, and no accepted order is lost."""

from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from eventbus.database.db import engine_of
from testkit.eventually import eventually
from testkit.network import plain_http
from testkit.processes.stack import Stack

#: The limit of each process, less than the number of clients.
LIMIT = 5
CLIENTS = 60


def test_the_api_refuses_requests_beyond_its_limit(stack: Stack) -> None:
    # Given an API that waits for the database
    stack.extra["API_QUEUE_LIMIT"] = str(LIMIT)
    # Longer than these clients need for their requests on a busy machine.
    stack.extra["DATABASE_STATEMENT_TIMEOUT"] = stack.extra["DATABASE_LOCK_TIMEOUT"] = "60"
    stack.start("api")
    stack.stock(TEA=1_000)
    with engine_of(stack.sessions("order")).connect() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")

        # When more requests arrive than both processes accept
        with ThreadPoolExecutor(CLIENTS) as pool:
            responses = [pool.submit(stack.post_order, ("TEA", 1)) for _ in range(CLIENTS)]

            # Then the others are refused at once, while the database blocks
            eventually(lambda: _assert_answered(responses, CLIENTS - 2 * LIMIT))
            eventually(lambda: _assert_blocked(stack))
            refused = [response.result() for response in responses if response.done()]

            # And probes are answered
            assert plain_http.get(f"{stack.url}/healthz", timeout=60).status_code == 200
            assert plain_http.get(f"{stack.url}/metrics", timeout=60).status_code == 200

            # When the database continues
            connection.rollback()
            results = [response.result() for response in responses]

    # Then each refusal specifies when to retry
    assert {response.status_code for response in refused} == {503}
    assert {response.headers["Retry-After"] for response in refused} == {"1"}
    assert {r.headers["Content-Type"] for r in refused} == {"application/problem+json"}
    placed = [response for response in results if response.status_code == 201]
    assert len(placed) == CLIENTS - len(refused)
    assert len(placed) >= LIMIT

    # And one order is stored for each 201
    assert stack.execute("order", "SELECT count(*) FROM orders") == [len(placed)]

    # And the API accepts orders again
    assert stack.post_order(("TEA", 1)).status_code == 201


def _assert_answered(responses: list[Future[httpx.Response]], count: int) -> None:
    assert sum(response.done() for response in responses) >= count


def _assert_blocked(stack: Stack) -> None:
    # One statement of each process waits for the lock, and the other orders for that statement.
    (blocked,) = stack.execute(
        "order",
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert blocked == 2
