"""Servers reject clients without TLS 1.2 or later."""

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import psycopg2
import pytest

from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost


@pytest.fixture(params=["broker", "management", "metrics", "database"])
def address(request: pytest.FixtureRequest, servers: Infrastructure) -> tuple[str, int]:
    """A server and its port."""
    ports = {
        "broker": servers.amqp_port,
        "management": int(servers.management_url.rpartition(":")[2]),
        "metrics": servers.broker_metrics_port,
        "database": servers.postgres_port,
    }
    return request.param, ports[request.param]


def handshake(server: str, port: int, ca_file: Path, version: ssl.TLSVersion) -> str | None:
    """Perform a handshake with one version of TLS; return the version agreed on."""
    context = ssl.create_default_context(cafile=str(ca_file))
    # By default, OpenSSL does not offer the old versions.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        if server == "database":
            plain.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            return secure.version()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_server_accepts_tls_1_2_and_later(
    address: tuple[str, int], servers: Infrastructure, version: str
) -> None:
    agreed = handshake(*address, servers.ca_file, ssl.TLSVersion[version])

    assert agreed == version.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_a_server_rejects_older_tls(
    address: tuple[str, int], servers: Infrastructure, version: str
) -> None:
    # The alert is the server's, so the client did offer the version.
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.*protocol.version"):
        handshake(*address, servers.ca_file, ssl.TLSVersion[version])


def test_the_broker_rejects_amqp_without_tls(vhost: Vhost) -> None:
    with socket.create_connection(("127.0.0.1", vhost.amqp_port), timeout=60) as plain:
        plain.sendall(b"AMQP\x00\x00\x09\x01")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""

    # A TLS alert (21) at most: a frame of AMQP would start with 1, and a rejection with "AMQP".
    assert answer[:1] in (b"", b"\x15")


def test_the_broker_has_no_listener_without_tls(vhost: Vhost) -> None:
    listeners = vhost.request("GET", "/overview").json()["listeners"]

    protocols = {listener["protocol"] for listener in listeners}
    # The listener of the Erlang distribution is on 127.0.0.1 only.
    assert protocols == {"amqp/ssl", "https", "clustering", "https/prometheus"}
    assert {listener["ip_address"] for listener in listeners} - {"::"} == {"127.0.0.1"}


def test_the_database_rejects_connections_without_tls(
    database_of: Callable[[str], TestDatabase],
) -> None:
    settings = database_of("order").settings
    with pytest.raises(psycopg2.OperationalError, match="no encryption"):
        psycopg2.connect(
            host=settings["database_host"],
            port=settings["database_port"],
            user=settings["database_user"],
            password=settings["database_password"],
            dbname=settings["database_name"],
            sslmode="disable",
        )
