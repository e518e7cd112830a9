"""More requests than the API can answer: some are refused, none is lost, none waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.stack import Stack

#: More than the threads of both processes and their queues.
CLIENTS = 60


def test_beyond_its_queue_the_api_refuses_and_what_it_accepts_is_there(stack: Stack) -> None:
    # given an API whose threads all wait for the database
    stack.extra["API_QUEUE_LIMIT"] = "5"
    # for as long as so many clients take to ask on a busy machine
    stack.extra["DATABASE_STATEMENT_TIMEOUT"] = stack.extra["DATABASE_LOCK_TIMEOUT"] = "60"
    stack.start("api")
    stack.stock(TEA=1_000)
    with stack.sessions("order").kw["bind"].connect() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")

        # when more order than may wait, and the database goes on
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [pool.submit(stack.post_order, ("TEA", 1)) for _ in range(CLIENTS)]
            eventually(lambda: _assert_all_ask(stack), within=50)
            eventually(lambda: _assert_blocked(stack))
            connection.rollback()
            responses = [answer.result() for answer in answers]

    # then each is answered, as an order or with when to come again
    placed = [response for response in responses if response.status_code == 201]
    refused = [response for response in responses if response.status_code == 503]
    assert len(placed) + len(refused) == CLIENTS
    assert placed
    assert refused
    assert {response.headers["Retry-After"] for response in refused} == {"1"}
    assert {r.headers["Content-Type"] for r in refused} == {"application/problem+json"}

    # and an order was placed for those who were told so, and for nobody else
    assert stack.execute("order", "SELECT count(*) FROM orders") == [len(placed)]

    # and the API works again
    assert stack.post_order(("TEA", 1)).status_code == 201


def _assert_all_ask(stack: Stack) -> None:
    # Connected, as the kernel sees it (state 1), from the clients' end.
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{stack.ports.api_port:04X}"
    connected = [row for row in rows if row[2].endswith(port) and row[3] == "01"]
    assert len(connected) >= CLIENTS


def _assert_blocked(stack: Stack) -> None:
    # One statement of each process waits for the lock, and all other orders for their turn.
    (blocked,) = stack.execute(
        "order",
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert blocked == 2
