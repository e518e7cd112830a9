"""The proxy between a program and its broker: it outlives an outage of the broker."""

import socket

from testkit.network.proxy import Proxy
from testkit.servers.workers import own_ports


def test_a_proxy_connects_again_after_an_outage_of_the_broker() -> None:
    # Given a proxy whose broker is down
    port = own_ports().amqp_port
    proxy = Proxy(port)
    try:
        # When a client connects, then its connection is closed
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
            assert client.recv(1) == b""

        # And when the broker runs, the next connection reaches it
        with (
            socket.create_server(("127.0.0.1", port)) as broker,
            socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client,
        ):
            broker.settimeout(60)
            server, _ = broker.accept()
            with server:
                client.sendall(b"x")
                assert server.recv(1) == b"x"
    finally:
        proxy.stop()


def test_held_data_is_forwarded_when_it_is_released() -> None:
    # Given a proxy that holds back the data of both sides
    with socket.create_server(("127.0.0.1", 0)) as broker:
        proxy = Proxy(broker.getsockname()[1])
        try:
            with socket.create_connection(("127.0.0.1", proxy.port), timeout=60) as client:
                broker.settimeout(60)
                server, _ = broker.accept()
                with server:
                    proxy.hold_requests()
                    proxy.hold_responses()
                    client.sendall(b"x")
                    server.sendall(b"y")

                    # When it is released
                    proxy.release()

                    # Then the data arrives
                    assert (server.recv(1), client.recv(1)) == (b"x", b"y")
        finally:
            proxy.stop()
