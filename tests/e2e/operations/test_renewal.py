"""The renewal of certificates under load."""

import socket
import ssl
from threading import Event, Thread
from typing import Any
from urllib.parse import quote

import httpx
from click.testing import CliRunner
from sqlalchemy import create_engine, pool, text

from console.orderctl import main
from testkit.eventually import eventually
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure


def test_a_renewal_under_load_loses_no_order(
    stack: Stack, servers: Infrastructure, databases: Databases
) -> None:
    # Given a steady flow of orders
    stack.stock(TEA=10_000)
    stack.start()
    placed: list[str] = []
    ended = Event()

    def place() -> None:
        while not ended.is_set():
            placed.append(stack.place(("TEA", 1)))
            ended.wait(0.05)

    before = shown_certificates(servers)
    customers = Thread(target=place)
    customers.start()
    try:
        eventually(lambda: placed_at_least(placed, 5))

        # When certificates are renewed, and the servers reload them
        environment = {"ORDERS_ENV_FILE": str(servers.operator_environment)}
        renewed = CliRunner().invoke(main, ["tls", "renew"], env=environment)
        assert renewed.exit_code == 0, renewed.output
        reload_database(databases)

        # And every client must reconnect
        eventually(lambda: differs(before, shown_certificates(servers)))
        # The broker's list of connections is seconds old, and may be empty.
        eventually(lambda: close_connections(stack))
        count = len(placed)
        eventually(lambda: placed_at_least(placed, count + 5))
    finally:
        ended.set()
        customers.join()

    # Then every order is confirmed, once
    for order_id in placed:
        assert stack.decided(order_id) == ("CONFIRMED", None)
    assert stack.reserved("TEA") == len(placed)
    for service in ("order", "inventory", "notification"):
        assert stack.vhost.depth(f"{service}.dlq") == 0


def placed_at_least(placed: list[str], count: int) -> None:
    assert len(placed) >= count


def differs(before: list[bytes], now: list[bytes]) -> None:
    assert all(old != new for old, new in zip(before, now, strict=True))


def shown_certificates(servers: Infrastructure) -> list[bytes]:
    """Return the certificates that the broker and the database present to a new client."""
    context = ssl.create_default_context(cafile=str(servers.ca_file))
    certificates = []
    for port, accepted in ((servers.amqp_port, b""), (servers.postgres_port, b"S")):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
            if accepted:
                plain.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
                assert plain.recv(1) == accepted
            with context.wrap_socket(plain, server_hostname="localhost") as secure:
                certificates.append(secure.getpeercert(binary_form=True) or b"")
    return certificates


def reload_database(databases: Databases) -> None:
    engine = create_engine(databases.server, poolclass=pool.NullPool)
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_reload_conf()"))


def close_connections(stack: Stack) -> None:
    """Make the broker close every connection of the test's vhost."""
    for connection in eventually(lambda: _connections(stack)):
        try:
            stack.vhost.request("DELETE", f"/connections/{quote(connection['name'], safe='')}")
        except httpx.HTTPStatusError as error:
            # It has been closed since.
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise


def _connections(stack: Stack) -> list[dict[str, Any]]:
    """Return the connections of every service, once the broker lists them."""
    path = f"/vhosts/{stack.vhost.name}/connections"
    listed: list[dict[str, Any]] = stack.vhost.request("GET", path).json()
    users = {connection["user"] for connection in listed}
    assert users >= {"order", "inventory", "notification", "scheduler"}
    return listed
