"""More requests than the API can answer: some are refused, none is lost, none waits for ever."""

from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from testkit.eventually import eventually
from testkit.processes.stack import Stack

#: Of each process, so small that a test has more clients.
LIMIT = 5
CLIENTS = 60


def test_beyond_its_limit_the_api_refuses_and_what_it_accepts_is_there(stack: Stack) -> None:
    # given an API that waits for the database
    stack.extra["API_QUEUE_LIMIT"] = str(LIMIT)
    # for as long as so many clients take to ask on a busy machine
    stack.extra["DATABASE_STATEMENT_TIMEOUT"] = stack.extra["DATABASE_LOCK_TIMEOUT"] = "60"
    stack.start("api")
    stack.stock(TEA=1_000)
    with stack.sessions("order").kw["bind"].connect() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")

        # when more order than may be under way in both processes
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [pool.submit(stack.post_order, ("TEA", 1)) for _ in range(CLIENTS)]

            # then the others are refused at once, while nothing goes on
            eventually(lambda: _assert_answered(answers, CLIENTS - 2 * LIMIT))
            eventually(lambda: _assert_blocked(stack))
            refused = [answer.result() for answer in answers if answer.done()]

            # and probes are not
            assert httpx.get(f"{stack.url}/healthz", timeout=10).status_code == 200
            assert httpx.get(f"{stack.url}/metrics", timeout=10).status_code == 200

            # when the database goes on
            connection.rollback()
            responses = [answer.result() for answer in answers]

    # then each is answered, as an order or with when to come again
    assert {response.status_code for response in refused} == {503}
    assert {response.headers["Retry-After"] for response in refused} == {"1"}
    assert {r.headers["Content-Type"] for r in refused} == {"application/problem+json"}
    placed = [response for response in responses if response.status_code == 201]
    assert len(placed) == CLIENTS - len(refused)
    assert len(placed) >= LIMIT

    # and an order was placed for those who were told so, and for nobody else
    assert stack.execute("order", "SELECT count(*) FROM orders") == [len(placed)]

    # and the API works again
    assert stack.post_order(("TEA", 1)).status_code == 201


def _assert_answered(answers: list[Future[httpx.Response]], count: int) -> None:
    assert sum(answer.done() for answer in answers) >= count


def _assert_blocked(stack: Stack) -> None:
    # One statement of each process waits for the lock, and all other orders for their turn.
    (blocked,) = stack.execute(
        "order",
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert blocked == 2
