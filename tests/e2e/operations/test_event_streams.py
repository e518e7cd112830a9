"""Event streams of the console's server: many viewers, no thread per viewer, a prompt shutdown."""

import base64
import socket
import time

import pytest

from deploy.local.servers import credentials
from testkit.network import plain_http
from testkit.processes.stack import Stack

#: More than the console has threads.
VIEWERS = 50


@pytest.fixture
def login(stack: Stack) -> tuple[str, str]:
    """The login of a running console."""
    stack.start("console")
    return "operator", credentials.read(stack.servers.secrets_dir, credentials.CONSOLE)


def opened(stack: Stack, login: tuple[str, str]) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", stack.ports.console_port), timeout=60)
    basic = base64.b64encode(":".join(login).encode()).decode()
    request = (
        f"GET /overview/stream HTTP/1.1\r\nHost: console\r\nAuthorization: Basic {basic}\r\n\r\n"
    )
    connection.sendall(request.encode())
    return connection


def received(connection: socket.socket, text: bytes) -> bytes:
    """Return what arrives, up to a text."""
    content = b""
    while text not in content:
        arrived = connection.recv(65_536)
        assert arrived, content[-200:]
        content += arrived
    return content


def test_fifty_viewers_share_the_samples_and_occupy_no_thread(
    stack: Stack, login: tuple[str, str]
) -> None:
    # Given more streams than the console has threads
    viewers = [opened(stack, login) for _ in range(VIEWERS)]

    # Then each receives the same sample, and a page responds
    first = {received(each, b"\n\n").partition(b"data: ")[2][:20] for each in viewers}
    url = f"http://127.0.0.1:{stack.ports.console_port}"
    page = plain_http.get(f"{url}/overview", auth=login, timeout=60)
    assert len(first) <= 2
    assert page.status_code == 200

    # When the console is shut down
    began = time.monotonic()
    stack.shut_down("console")

    # Then the streams have ended, and have not delayed it
    assert time.monotonic() - began < 20
    for each in viewers:
        while each.recv(65_536):
            pass
        each.close()
