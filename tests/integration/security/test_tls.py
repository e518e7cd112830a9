"""Clients refuse a server that they cannot be sure of; servers refuse a client without TLS 1.2."""

import json
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2
import pytest
from click.testing import CliRunner
from kombu.connection import Connection
from sqlalchemy import create_engine, pool, text

from common.kombu_topology import EVENTS, topology
from console.certificates.certificate_authority import SERVERS, Authority
from console.orderctl import main
from eventbus import tls
from eventbus.database import db
from eventbus.messaging.in_flight import Outgoing
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.base import SettingsError, load
from eventbus.settings.broker import BrokerSettings, broker_url
from eventbus.settings.database import DatabaseSettings
from eventbus.settings.service import ServiceSettings
from testkit.network.impostor import Impostor
from testkit.processes.publishers import publish_and_settle
from testkit.servers.databases import Databases, TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

SECRET = "s3cr3t-hunter2"


# --- Whom clients trust -------------------------------------------------------------------------


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """An authority of the test's own."""
    made = Authority(tmp_path / "tls")
    list(made.init())
    return made


def of_another_authority(authority: Authority, tmp_path: Path) -> Path:
    other = Authority(tmp_path / "other")
    list(other.init())
    return other.server_file("rabbitmq")


def expired(authority: Authority, _tmp_path: Path) -> Path:
    authority.issue("rabbitmq", lifetime=timedelta(minutes=-1))
    return authority.server_file("rabbitmq")


def of_another_host(authority: Authority, tmp_path: Path) -> Path:
    # The same authority signs it, for other names only.
    elsewhere = Authority(tmp_path / "tls")
    elsewhere._names = ("elsewhere.example", "192.0.2.1")
    elsewhere.issue("rabbitmq")
    return authority.server_file("rabbitmq")


def right(authority: Authority, _tmp_path: Path) -> Path:
    return authority.server_file("rabbitmq")


WRONG = {
    of_another_authority: "certificate verify failed",
    expired: "certificate has expired|certificate verify failed",
    of_another_host: "(IP address|Hostname|host name).*127.0.0.1|does not match",
}

Certificate = Callable[[Authority, Path], Path]


@pytest.fixture
def impostor(
    request: pytest.FixtureRequest, authority: Authority, tmp_path: Path
) -> Iterator[Impostor]:
    """A server with the certificate that the test is parametrized with."""
    with Impostor.running(request.param(authority, tmp_path)) as running:
        yield running


def as_publisher(port: int, authority: Authority) -> str:
    settings = BrokerSettings(
        broker_port=port,
        broker_user="order",
        broker_password=SECRET,
        broker_ca_file=authority.certificate_file,
    )
    publisher = ConfirmingPublisher(
        broker_url(settings),
        tls=tls.broker_options(settings),
        service="order",
        user="order",
        exchange=EVENTS.name,
        heartbeat=30,
    )
    report = publish_and_settle(publisher, [Outgoing(uuid4(), "order.created", "{}", uuid4())])
    publisher.close()
    return report.error or ""


def as_database_client(port: int, authority: Authority) -> str:
    settings = DatabaseSettings(
        database_port=port,
        database_name="orders",
        database_user="order",
        database_password=SECRET,
        database_ca_file=authority.certificate_file,
    )
    with pytest.raises(Exception) as error:  # noqa: PT011, the text is the test's matter
        db.engine(settings).connect()
    return str(getattr(error.value, "orig", error.value)).strip()


def nothing_set(directory: Path) -> Path:
    """Return a dotenv file with nothing in it, so that a run's own is not read."""
    directory.mkdir(exist_ok=True)
    file = directory / "operator.env"
    file.touch()
    return file


def as_orderctl(*arguments: str) -> Callable[[int, Authority], str]:
    def run(port: int, authority: Authority) -> str:
        environment = {
            "ORDERS_ENV_FILE": str(nothing_set(authority.certificate_file.parent)),
            "SECRETS_DIR": str(authority.certificate_file.parent),
            "BROKER_ADMIN_URL": f"https://127.0.0.1:{port}",
            "BROKER_PORT": str(port),
            "BROKER_ADMIN_USER": "deployer",
            "BROKER_ADMIN_PASSWORD": SECRET,
            "BROKER_CA_FILE": str(authority.certificate_file),
            "DATABASE_PORT": str(port),
            "DATABASE_ADMIN_PASSWORD": SECRET,
            "DATABASE_CA_FILE": str(authority.certificate_file),
        }
        for service in ("order", "inventory", "notification"):
            (authority.certificate_file.parent / f"{service}.database").write_text(SECRET)
        result = CliRunner().invoke(main, arguments, env=environment)
        assert result.exit_code == 1, result.output
        return result.stderr.strip()

    run.__name__ = "orderctl " + " ".join(arguments)
    return run


CLIENTS = [
    as_publisher,
    as_database_client,
    as_orderctl("topology", "plan"),
    as_orderctl("parked", "list"),
    as_orderctl("database", "apply"),
]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.__name__)
@pytest.mark.parametrize(
    ("impostor", "reason"),
    WRONG.items(),
    indirect=["impostor"],
    ids=lambda w: getattr(w, "__name__", ""),
)
def test_a_client_refuses_a_server_that_it_cannot_be_sure_of(
    impostor: Impostor, authority: Authority, reason: str, client: Callable[[int, Authority], str]
) -> None:
    # when
    said = client(impostor.port, authority)

    # then it says why, in one line, and the server has not got a word
    assert re.search(reason, said), said
    assert "\n" not in said
    assert SECRET not in said
    assert impostor.heard == []


@pytest.mark.parametrize("impostor", [right], indirect=True, ids=["right"])
@pytest.mark.parametrize("client", CLIENTS[:2], ids=lambda client: client.__name__)
def test_the_impostor_is_heard_when_its_certificate_is_right(
    impostor: Impostor, authority: Authority, client: Callable[[int, Authority], str]
) -> None:
    client(impostor.port, authority)

    assert impostor.heard != []


def test_the_brokers_host_name_may_be_another_than_its_address(
    servers: Infrastructure, vhost: Vhost
) -> None:
    def connect(hostname: str | None) -> None:
        settings = BrokerSettings(
            broker_port=vhost.amqp_port,
            broker_user=vhost.admin_user,
            broker_password=vhost.admin_password,
            broker_ca_file=vhost.ca_file,
            broker_server_hostname=hostname,
        )
        options = tls.broker_options(settings)
        with Connection(vhost.amqp_url, ssl=options) as connection:
            connection.connect()

    # It has both names, and no third one.
    connect("localhost")
    connect("127.0.0.1")
    with pytest.raises(ssl.SSLCertVerificationError, match=r"elsewhere\.example"):
        connect("elsewhere.example")


@pytest.mark.parametrize("name", ["BROKER_CA_FILE", "DATABASE_CA_FILE"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), ("", "no certificate"), ("no certificate", "no certificate")],
)
def test_a_wrong_ca_file_is_named_at_the_start(
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    content: str | None,
    reason: str,
) -> None:
    # given
    required = {
        "BROKER_USER": "order",
        "BROKER_PASSWORD": SECRET,
        "BROKER_CA_FILE": str(authority.certificate_file),
        "DATABASE_NAME": "orders",
        "DATABASE_USER": "order",
        "DATABASE_PASSWORD": SECRET,
        "DATABASE_CA_FILE": str(authority.certificate_file),
    }
    wrong = tmp_path / "wrong.crt"
    if content is not None:
        wrong.write_text(content)
    for variable, value in (required | {name: str(wrong)}).items():
        monkeypatch.setenv(variable, value)

    # then
    with pytest.raises(SettingsError, match=rf"^setting {name}: .*{reason}") as error:
        load(ServiceSettings)
    assert "\n" not in str(error.value)


# --- Whom servers let in ------------------------------------------------------------------------


@pytest.fixture(params=["broker", "management", "metrics", "database"])
def address(request: pytest.FixtureRequest, servers: Infrastructure) -> tuple[str, int]:
    """One of the servers' ports."""
    ports = {
        "broker": servers.amqp_port,
        "management": int(servers.management_url.rpartition(":")[2]),
        "metrics": servers.broker_metrics_port,
        "database": servers.postgres_port,
    }
    return request.param, ports[request.param]


def handshake(server: str, port: int, ca_file: Path, version: ssl.TLSVersion) -> str | None:
    """Shake hands with this version of TLS only; returns its name, or what was refused."""
    context = ssl.create_default_context(cafile=str(ca_file))
    # OpenSSL itself would not even offer the old ones.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        if server == "database":
            plain.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f")
            assert plain.recv(1) == b"S"
        with context.wrap_socket(plain, server_hostname="localhost") as secure:
            return secure.version()


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_a_server_takes_tls_1_2_and_later(
    address: tuple[str, int], servers: Infrastructure, version: str
) -> None:
    agreed = handshake(*address, servers.ca_file, ssl.TLSVersion[version])

    assert agreed == version.replace("_", ".")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_a_server_refuses_older_tls(
    address: tuple[str, int], servers: Infrastructure, version: str
) -> None:
    # The server's own alert, and not a client that could not even ask.
    with pytest.raises(ssl.SSLError, match=r"(?i)alert.*protocol.version"):
        handshake(*address, servers.ca_file, ssl.TLSVersion[version])


def test_the_broker_does_not_talk_amqp_without_tls(vhost: Vhost) -> None:
    with socket.create_connection(("127.0.0.1", vhost.amqp_port), timeout=10) as plain:
        plain.sendall(b"AMQP\x00\x00\x09\x01")
        try:
            answer = plain.recv(100)
        except ConnectionResetError:
            answer = b""

    # A TLS alert (21) at most: the first frame of AMQP would begin with 1, a refusal with "AMQP".
    assert answer[:1] in (b"", b"\x15")


def test_the_broker_has_no_listener_without_tls(vhost: Vhost) -> None:
    listeners = vhost.request("GET", "/overview").json()["listeners"]

    protocols = {listener["protocol"] for listener in listeners}
    # And Erlang's own, on 127.0.0.1 only.
    assert protocols == {"amqp/ssl", "https", "clustering", "https/prometheus"}
    assert {listener["ip_address"] for listener in listeners} - {"::"} == {"127.0.0.1"}


def test_the_database_lets_nobody_in_without_tls(
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


def test_every_connection_to_the_database_is_encrypted(databases: Databases) -> None:
    engine = create_engine(databases.server, poolclass=pool.NullPool)
    with engine.connect() as connection:
        version = connection.scalar(
            text("SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        )

    assert version in ("TLSv1.2", "TLSv1.3")


# --- The authority ------------------------------------------------------------------------------


def orderctl_tls(directory: Path, *arguments: str, **environment: str) -> Any:
    settings = {
        "ORDERS_ENV_FILE": str(nothing_set(directory.parent)),
        "TLS_DIR": str(directory),
    } | environment
    return CliRunner().invoke(main, ["tls", *arguments], env=settings)


@pytest.fixture
def tls_dir(tmp_path: Path) -> Path:
    """A directory that does not exist yet."""
    return tmp_path / "tls"


def shown(directory: Path) -> dict[str, dict[str, Any]]:
    found = json.loads(orderctl_tls(directory, "show", "--json").stdout)
    return {Path(certificate["file"]).stem: certificate for certificate in found}


def test_init_makes_what_is_missing_and_changes_nothing_else(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init")
    before = {file: file.read_bytes() for file in tls_dir.iterdir()}

    # when
    again = orderctl_tls(tls_dir, "init")

    # then
    assert again.stdout == "certificates: nothing to change\n"
    assert {file: file.read_bytes() for file in tls_dir.iterdir()} == before
    found = shown(tls_dir)
    assert set(found) == {"ca", *SERVERS}
    assert found["rabbitmq"]["names"] == ["localhost", "127.0.0.1", "::1"]
    assert 360 <= found["rabbitmq"]["days_left"] <= 365


def test_nobody_else_reads_a_key(tls_dir: Path) -> None:
    orderctl_tls(tls_dir, "init")
    orderctl_tls(tls_dir, "renew")

    modes = {file.name: file.stat().st_mode & 0o777 for file in tls_dir.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600} | {f"{s}.pem": 0o600 for s in SERVERS}


def test_renew_replaces_the_servers_and_keeps_the_authority(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init")
    before = {file.name: file.read_bytes() for file in tls_dir.iterdir()}

    # when
    orderctl_tls(tls_dir, "renew")

    # then
    changed = {f.name for f in tls_dir.iterdir() if f.read_bytes() != before[f.name]}
    assert changed == {f"{server}.pem" for server in SERVERS}


def test_init_renews_what_ends_soon_or_has_other_names(tls_dir: Path) -> None:
    # given
    authority = Authority(tls_dir)
    list(authority.init())
    authority.issue("postgres", lifetime=timedelta(days=29))
    assert shown(tls_dir)["postgres"]["days_left"] == 28

    # then what ends soon is renewed
    orderctl_tls(tls_dir, "init")
    assert shown(tls_dir)["postgres"]["days_left"] >= 360

    # and what lacks a name
    told = orderctl_tls(tls_dir, "init", TLS_NAMES="rabbit.internal, 10.0.0.5")
    assert told.stdout.count("created ") == 2
    names = ["localhost", "127.0.0.1", "::1", "rabbit.internal", "10.0.0.5"]
    assert shown(tls_dir)["rabbitmq"]["names"] == names


def test_each_broker_user_gets_a_certificate_that_only_its_owner_reads(tls_dir: Path) -> None:
    # when
    told = orderctl_tls(tls_dir, "init", "--clients")

    # then
    users = {user.name for user in topology().users}
    files = list((tls_dir / "clients").iterdir())
    assert {file.name for file in files} == {f"{user}.pem" for user in users}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert set(shown(tls_dir)) == {"ca", *SERVERS, *users}
    assert shown(tls_dir)["order"]["subject"] == "CN=order"
    assert told.stdout.count("created ") == 1 + len(SERVERS) + len(users)

    # and neither of them again
    for again in (("init", "--clients"), ("init",)):
        assert orderctl_tls(tls_dir, *again).stdout == "certificates: nothing to change\n"


def test_clients_certificates_are_renewed_too(tls_dir: Path) -> None:
    # given
    orderctl_tls(tls_dir, "init", "--clients")
    file = Authority(tls_dir).client_file("order")
    before = file.read_bytes()

    # when
    orderctl_tls(tls_dir, "renew")

    # then
    assert file.read_bytes() != before
    assert file.stat().st_mode & 0o777 == 0o600

    # and one that ends soon, by each `make up`
    Authority(tls_dir).issue_client("order", lifetime=timedelta(days=29))
    told = orderctl_tls(tls_dir, "init")
    assert told.stdout.count("created ") == 1
    assert shown(tls_dir)["order"]["days_left"] >= 360


def test_a_missing_authority_is_not_replaced_by_another(tls_dir: Path) -> None:
    # given every client trusts the one that is gone
    orderctl_tls(tls_dir, "init")
    (tls_dir / "ca.key").unlink()

    # then
    for command in ("init", "renew"):
        refused = orderctl_tls(tls_dir, command)
        assert refused.exit_code == 1
        assert "ca.key" in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("names", ["a b", "-", "ä.example", "a,/etc/passwd"])
def test_a_name_that_no_host_has_is_refused(tls_dir: Path, names: str) -> None:
    refused = orderctl_tls(tls_dir, "init", TLS_NAMES=names)

    assert refused.exit_code == 1
    assert "TLS_NAMES" in (refused.stderr or str(refused.exception))
