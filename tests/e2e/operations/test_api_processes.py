"""The processes of the API: shut down, killed, or orphaned by their server."""

import os
import signal
import socket
from concurrent.futures import ThreadPoolExecutor

from eventbus.database.db import engine_of
from testkit.eventually import eventually
from testkit.processes.stack import Stack


def test_the_api_responds_to_pending_requests_at_shutdown(stack: Stack) -> None:
    # Given an order that waits for the database
    stack.start("api")
    with engine_of(stack.sessions("order")).connect() as connection:
        connection.exec_driver_sql("LOCK TABLE orders IN EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as pool:
            response = pool.submit(stack.post_order, ("TEA", 1))
            eventually(lambda: _assert_blocked(stack))

            # When the API is shut down, and then the database continues
            stack.signal("api", signal.SIGTERM)
            eventually(lambda: _assert_port_closed(stack))
            connection.rollback()

            # Then the order is placed, and the API exits successfully
            assert response.result().status_code == 201
    assert stack.wait_until_dead("api") == 0
    assert stack.execute("order", "SELECT count(*) FROM orders") == [1]


def test_a_killed_process_is_replaced(stack: Stack) -> None:
    # Given a running API
    stack.start("api")
    before = _children(stack)

    # When one of its processes is killed
    os.kill(min(before), signal.SIGKILL)

    # Then another process replaces it
    def replaced() -> None:
        now = _children(stack)
        assert len(now) == len(before)
        assert min(before) not in now

    eventually(replaced)
    stack.wait_until_healthy("api")
    assert stack.post_order(("TEA", 1)).status_code == 201


def test_processes_exit_with_their_server(stack: Stack) -> None:
    # Given a running API
    stack.start("api")

    # When the server is killed, so that it cannot stop them
    stack.signal("api", signal.SIGKILL)

    # Then the port is closed
    eventually(lambda: _assert_port_closed(stack))
    stack.wait_until_dead("api")
    stack.start("api")


def _children(stack: Stack) -> set[int]:
    pids = set(stack.pids()["api"])
    # The server is the leader of their group.
    return pids - {os.getpgid(min(pids))}


def _assert_port_closed(stack: Stack) -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", stack.ports.api_port)) != 0


def _assert_blocked(stack: Stack) -> None:
    (blocked,) = stack.execute(
        "order",
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock'",
    )
    assert blocked == 1
