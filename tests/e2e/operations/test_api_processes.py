"""The processes of the API: told to end, killed, or left by their server."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from testkit.eventually import eventually
from testkit.processes.stack import Stack


def test_an_api_that_is_told_to_end_answers_what_is_under_way(stack: Stack) -> None:
    # given an order that waits for the database
    stack.start("api")
    with stack.sessions("order").kw["bind"].connect() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool:
            answer = pool.submit(stack.post_order, ("TEA", 1))
            eventually(lambda: _assert_blocked(stack))

            # when the API is told to end, and then the database goes on
            stack.signal("api", signal.SIGTERM)
            eventually(lambda: _assert_nobody_listens(stack))
            connection.rollback()

            # then it is answered, and there, and the API has ended well
            assert answer.result().status_code == 201
    assert stack.wait_until_dead("api") == 0
    assert stack.execute("order", "SELECT count(*) FROM orders") == [1]


def test_a_process_that_is_killed_is_replaced(stack: Stack) -> None:
    # given
    stack.start("api")
    before = _children(stack)

    # when
    os.kill(min(before), signal.SIGKILL)

    # then
    def replaced() -> None:
        now = _children(stack)
        assert len(now) == len(before)
        assert min(before) not in now

    eventually(replaced)
    stack.wait_until_healthy("api")
    assert stack.post_order(("TEA", 1)).status_code == 201


def test_processes_end_with_their_server(stack: Stack) -> None:
    # given
    stack.start("api")

    # when the server is gone, and could tell them nothing
    stack.signal("api", signal.SIGKILL)

    # then nobody listens any more
    eventually(lambda: _assert_nobody_listens(stack))
    stack.wait_until_dead("api")
    stack.start("api")


def _children(stack: Stack) -> set[int]:
    pids = set(stack.pids()["api"])
    # The server leads their group.
    return pids - {os.getpgid(min(pids))}


def _assert_nobody_listens(stack: Stack) -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", stack.ports.api_port)) != 0


def _assert_blocked(stack: Stack) -> None:
    (blocked,) = stack.execute(
        "order",
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert blocked == 1
