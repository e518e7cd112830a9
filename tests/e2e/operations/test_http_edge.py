"""The HTTP edge of the API's server: requests are bounded in time, and unambiguous."""

import json
import select
import signal
import socket
from collections import Counter
from contextlib import suppress

import pytest

from testkit.eventually import eventually
from testkit.network.raw_http import ORDER, Answer, RawClient, answer
from testkit.processes.stack import Stack

#: More connections than both processes have threads.
MANY = 300

TRUE, FORGED = "203.0.113.7", "198.51.100.66"


@pytest.fixture(scope="module")
def api(shared_stack: Stack) -> Stack:
    """An API behind one proxy, with environment variables that look like headers."""
    shared_stack.extra |= {
        "API_TRUSTED_PROXIES": "1",
        "API_IDLE_TIMEOUT": "4",
        "HTTP_IDEMPOTENCY_KEY": "of-the-environment",
        "HTTP_AUTHORIZATION": f"Bearer {shared_stack.api_key}",
        "HTTP_X_FORWARDED_FOR": FORGED,
        "CONTENT_TYPE": "application/json",
    }
    shared_stack.start("api")
    return shared_stack


@pytest.fixture
def client(api: Stack) -> RawClient:
    """A client whose key has every scope."""
    return RawClient(api.ports.api_port, api.api_key)


def address_of(api: Stack, placed: Answer) -> str | None:
    (event,) = api.execute(
        "order", f"SELECT event FROM outbox WHERE subject = '{placed.document['id']}'"
    )
    address: str | None = json.loads(event)["data"]["client_ip"]
    return address


def orders(api: Stack) -> int:
    (number,) = api.execute("order", "SELECT count(*) FROM orders")
    return int(number)


# --- Time ---------------------------------------------------------------------------------------


def test_slow_bodies_time_out_and_block_no_order(client: RawClient) -> None:
    # Given more slow bodies than threads
    head = client.head("POST /orders", "Content-Length: 2000")
    slow = [client.connect() for _ in range(MANY)]
    for connection in slow:
        connection.sendall(head + b'{"customer"')

    # Then orders are placed in the meantime
    assert Counter(client.place().status for _ in range(10)) == {201: 10}
    assert not any(select.select(slow, [], [], 0)[0])

    # And the slow requests time out, and their connections are closed
    responses = [answer(connection) for connection in slow]
    assert {(r.status, r.headers["connection"]) for r in responses} == {(408, "close")}
    assert responses[0].document["title"] == "Request Timeout"
    assert all(connection.recv(1) == b"" for connection in slow)
    _close(slow)


def test_a_slow_chunked_body_times_out(client: RawClient) -> None:
    with client.connected() as connection:
        connection.sendall(client.head("POST /orders", "Transfer-Encoding: chunked"))
        connection.sendall(b"1\r\n{\r\n")

        assert answer(connection).status == 408


def test_a_client_without_a_key_is_rejected_before_its_body(api: Stack) -> None:
    stranger = RawClient(api.ports.api_port)
    with stranger.connected() as connection:
        connection.settimeout(3)
        connection.sendall(stranger.head("POST /orders", "Content-Length: 2000"))

        assert answer(connection).status == 401


def test_an_excessive_content_length_is_rejected_at_once(client: RawClient) -> None:
    with client.connected() as connection:
        connection.settimeout(3)
        connection.sendall(client.head("POST /orders", "Content-Length: 70000"))

        assert answer(connection).status == 413


def test_idle_connections_time_out_and_block_no_order(client: RawClient) -> None:
    # Given connections that send nothing, or only a part of a head
    silent = [client.connect() for _ in range(MANY)]
    for connection in silent[: MANY // 2]:
        connection.sendall(b"POST /orders HTTP/1.1\r\nHost:")

    # Then orders are placed, and the connections are closed
    assert client.place().status == 201
    assert all(connection.recv(100) == b"" for connection in silent)
    _close(silent)


def test_a_client_that_does_not_read_is_disconnected(client: RawClient) -> None:
    # Given more requests on one connection than the buffers between hold responses for
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(client.address)
        connection.settimeout(1)
        requests = client.head("GET /openapi.json") * 100
        with suppress(TimeoutError, ConnectionError):
            while True:
                connection.sendall(requests)

        # Then the server closes the connection
        hung_up = select.poll()
        hung_up.register(connection, 0)
        assert hung_up.poll(60_000)


def test_an_incomplete_body_places_no_order(api: Stack, client: RawClient) -> None:
    before = orders(api)
    length = f"Content-Length: {len(ORDER) + 1}"
    for head, body in (
        (client.head("POST /orders", length), ORDER),
        # Without the last chunk, the body may be incomplete.
        (
            client.head("POST /orders", "Transfer-Encoding: chunked"),
            f"{len(ORDER):x}\r\n{ORDER}\r\n",
        ),
    ):
        with client.connected() as connection:
            connection.sendall(head + body.encode())
            connection.shutdown(socket.SHUT_WR)
            assert answer(connection).status in {0, 400}
    assert orders(api) == before


@pytest.mark.parametrize("size", [1, 40, 10_000])
def test_a_chunked_body_is_read_as_a_whole(client: RawClient, size: int) -> None:
    chunks = [ORDER[i : i + size] for i in range(0, len(ORDER), size)]
    body = "".join(f"{len(chunk):x}\r\n{chunk}\r\n" for chunk in chunks) + "0\r\n\r\n"

    placed = client.send(client.head("POST /orders", "Transfer-Encoding: chunked") + body.encode())

    assert placed.status == 201


def test_a_chunked_body_that_is_too_large_is_rejected(client: RawClient) -> None:
    chunk = f"{40_000:x}\r\n{' ' * 40_000}\r\n".encode()

    response = client.send(client.head("POST /orders", "Transfer-Encoding: chunked") + 2 * chunk)

    assert response.status == 413


# --- Ambiguity ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        (f"X-Forwarded-For: {TRUE}",),
        (f"X-Forwarded-For: {TRUE}", f"X_Forwarded_For: {FORGED}"),
        (f"X_Forwarded_For: {FORGED}", f"X-Forwarded-For: {TRUE}"),
        (f"x-forwarded-for: {TRUE}", f"x_forwarded-for: {FORGED}"),
        # Two headers are one list, from left to right.
        (f"X-Forwarded-For: {FORGED}", f"X-Forwarded-For: {TRUE}"),
        (f"X-Forwarded-For: {FORGED}, {TRUE}",),
    ],
)
def test_a_client_cannot_choose_its_address(
    api: Stack, client: RawClient, headers: tuple[str, ...]
) -> None:
    assert address_of(api, client.place(*headers)) == TRUE


def test_a_header_with_an_underscore_is_ignored(api: Stack, client: RawClient) -> None:
    # When requests have headers with underscores
    first, second = (client.place("Idempotency_Key: k", "Content_Length: 3") for _ in range(2))

    # Then these headers have no effect
    assert {first.status, second.status} == {201}
    assert first.document["id"] != second.document["id"]
    assert address_of(api, client.place(f"X_Forwarded_For: {FORGED}")) == "127.0.0.1"


def test_environment_variables_are_not_headers(api: Stack, client: RawClient) -> None:
    stranger = RawClient(api.ports.api_port)

    first, second = client.place(), client.place()

    assert first.document["id"] != second.document["id"]
    assert address_of(api, first) == "127.0.0.1"
    assert stranger.place().status == 401


def test_equal_idempotency_keys_in_one_request_are_accepted(client: RawClient) -> None:
    key = "Idempotency-Key: twice"

    placed = [client.place(key), client.place(key, key), client.place(f"{key},twice")]

    assert {a.status for a in placed} == {201}
    assert len({a.document["id"] for a in placed}) == 1


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        (("Idempotency-Key: a", "Idempotency-Key: b"), "Idempotency-Key"),
        (("Idempotency-Key: a,b",), "Idempotency-Key"),
        (("Authorization: Bearer x",), "Authorization"),
        (("Content-Type: application/json", "Content-Type: text/plain"), "Content-Type"),
        (("Host: other",), "Host"),
    ],
)
def test_different_values_of_a_header_are_rejected(
    client: RawClient, headers: tuple[str, ...], field: str
) -> None:
    response = client.place(*headers)

    assert response.status == 400
    assert [error["field"] for error in response.document["errors"]] == [field]


def test_different_traceparents_are_ignored(client: RawClient) -> None:
    traces = [f"traceparent: 00-{digit * 32}-{digit * 16}-01" for digit in "12"]

    assert client.place(*traces).status == 201


def test_a_length_in_two_headers_is_rejected(client: RawClient) -> None:
    both = ("Content-Length: 5", "Transfer-Encoding: chunked")

    response = client.send(client.head("POST /orders", *both) + b"0\r\n\r\n")

    assert (response.status, response.headers["connection"]) == (400, "close")


def test_a_request_without_a_host_is_rejected(client: RawClient) -> None:
    assert client.send(client.head("GET /orders", host="")).status == 400


def test_a_header_that_is_not_text_is_rejected_where_it_matters(client: RawClient) -> None:
    def status_with(name: bytes) -> int:
        head = client.head("POST /orders", f"Content-Length: {len(ORDER)}")
        return client.send(head[:-2] + name + b": k\xe9\r\n\r\n" + ORDER.encode()).status

    assert status_with(b"Idempotency-Key") == 422
    assert status_with(b"User-Agent") == 201


# --- Shutdown -----------------------------------------------------------------------------------


def test_a_request_in_transit_at_shutdown_is_accepted(api: Stack, client: RawClient) -> None:
    # Given a persistent connection
    with client.connected() as connection:
        request = client.head("POST /orders", f"Content-Length: {len(ORDER)}") + ORDER.encode()
        connection.sendall(request)
        assert "connection" not in answer(connection).headers

        # When the API is shut down while the next request is in transit
        api.signal("api", signal.SIGTERM)
        eventually(lambda: _assert_closing(client))
        connection.sendall(request)

        # Then the request is accepted, and the connection is closed
        last = answer(connection)
        assert (last.status, last.headers["connection"]) == (201, "close")
    assert api.wait_until_dead("api") == 0
    # Other tests of this module use the API after this one.
    api.start("api")


def _assert_closing(client: RawClient) -> None:
    assert client.send(client.head("GET /healthz")).headers.get("connection") == "close"


def _close(connections: list[socket.socket]) -> None:
    for connection in connections:
        connection.close()
