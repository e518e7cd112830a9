"""The wheel of the library runs a system of another domain, with its guarantees."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from testkit.eventually import eventually
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost

ROOT = Path(__file__).parents[3]
TOY = ROOT / "testkit/toy/lending.py"

#: Creates a service's tables, and the topology.
SET_UP = """
import lending
from sqlalchemy import text
from kombu import Connection
from eventbus import quickstart, tls
from eventbus.database.db import engine
from eventbus.settings.base import load
from eventbus.settings.broker import broker_url
from eventbus.settings.service import ServiceSettings
from eventbus.topology.objects import topology

settings = load(ServiceSettings)
quickstart.create_tables(engine(settings))
with engine(settings).begin() as connection:
    connection.execute(text("CREATE TABLE loans (reader text PRIMARY KEY, loans integer)"))
    connection.execute(text("CREATE TABLE notes (reader text, loans integer)"))
with Connection(broker_url(settings), ssl=tls.broker_options(settings)) as connection:
    quickstart.declare(connection, topology(lending.BUS, [lending.DESK, lending.REGISTRY]))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and its requirements only."""
    folder = tmp_path_factory.mktemp("wheel")
    # The build writes into its source folder.
    ignored = shutil.ignore_patterns("__pycache__", "build", "*.egg-info")
    shutil.copytree(ROOT / "eventbus", folder / "eventbus", ignore=ignored)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    uv = [str(ROOT / ".venv/bin/uv"), "--quiet"]
    run = {**os.environ, "UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", "")}
    subprocess.run(
        [*uv, "build", "--system-certs", "--wheel", "--out-dir", folder, folder / "eventbus"],
        check=True,
        env=run,
    )
    pins = re.findall(r"^(\S+==\S+)", (ROOT / "requirements/run.txt").read_text(), re.MULTILINE)
    (folder / "pins.txt").write_text("\n".join(pins))
    (wheel,) = folder.glob("*.whl")
    subprocess.run(
        [
            *(*uv, "pip", "install", "--system-certs", "--link-mode", "copy"),
            *("--compile-bytecode", "--python", folder / "venv/bin/python"),
            *("--constraint", folder / "pins.txt", wheel),
        ],
        check=True,
        env=run,
    )
    return folder / "venv/bin"


@dataclass
class Lending:
    """The two services of the toy, each with a database, on one vhost."""

    environment: Path
    folder: Path
    vhost: Vhost
    servers: Infrastructure
    databases: dict[str, str]
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def settings(self, service: str) -> dict[str, str]:
        """Return the environment of a service's process."""
        return {
            "PATH": os.environ["PATH"],
            "BROKER_PORT": str(self.vhost.amqp_port),
            "BROKER_VHOST": self.vhost.name,
            "BROKER_USER": self.vhost.admin_user,
            "BROKER_PASSWORD": self.vhost.admin_password,
            "BROKER_CA_FILE": str(self.vhost.ca_file),
            "DATABASE_PORT": str(self.servers.postgres_port),
            "DATABASE_NAME": self.databases[service],
            "DATABASE_USER": "postgres",
            "DATABASE_PASSWORD": self.servers.postgres_password,
            "DATABASE_CA_FILE": str(self.servers.ca_file),
        }

    def python(self, service: str, code: str) -> None:
        """Run code with a service's settings."""
        subprocess.run(
            [self.environment / "python", "-c", code],
            cwd=self.folder,
            env=self.settings(service),
            check=True,
        )

    def start(self, service: str, app: str) -> None:
        """Start a process of a service, which logs to a file."""
        with (self.folder / f"{app}.log").open("wb") as log:
            process = subprocess.Popen(
                [self.environment / "python", "-m", "eventbus", "-A", f"lending:{app}", "worker"],
                cwd=self.folder,
                env=self.settings(service),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.started.append(process)

    def stop(self) -> None:
        """Shut down every process."""
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def lending(
    environment: Path,
    databases: Databases,
    servers: Infrastructure,
    vhost: Vhost,
    tmp_path: Path,
) -> Iterator[Lending]:
    """The toy in a separate folder, set up but not running."""
    names = {service: f"lending_{service}_{uuid4().hex[:8]}" for service in ("desk", "registry")}
    shutil.copy(TOY, tmp_path)
    toy = Lending(environment, tmp_path, vhost, servers, names)
    server = create_engine(databases.server, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        for name in names.values():
            connection.execute(text(f"CREATE DATABASE {name}"))
    for service in names:
        toy.python(service, SET_UP)
    yield toy
    toy.stop()
    with server.connect() as connection:
        for name in names.values():
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def rows(databases: Databases, name: str, query: str) -> list[tuple[object, ...]]:
    engine = create_engine(databases.server.set(database=name), poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(query))
        return [tuple(row) for row in result] if result.returns_rows else []


def test_the_wheel_contains_every_package_of_the_library(environment: Path) -> None:
    # Given the packages in the source tree
    packages = sorted(
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "eventbus").rglob("__init__.py")
    )

    # When each module of them is imported from the installed wheel
    code = f"import importlib; [importlib.import_module(p) for p in {packages}]"
    done = subprocess.run(
        [environment / "python", "-c", code], cwd="/", env={}, capture_output=True, check=False
    )

    # Then all of them are importable
    assert done.returncode == 0, done.stderr.decode()


def test_a_toy_of_another_domain_runs_on_the_wheel_alone(
    lending: Lending, databases: Databases
) -> None:
    # Given its two services
    for service in lending.databases:
        lending.start(service, service)
        lending.start(service, f"{service}_relay")

    # When books are lent, an event is published twice, and a message cannot be decoded
    loans = [uuid4() for _ in range(3)]
    for loan in loans:
        lending.python("desk", f"import lending, uuid; lending.lend(uuid.UUID('{loan}'), 'ada')")
    sent = "SELECT count(*) FROM outbox WHERE sent_at IS NOT NULL"

    def all_sent() -> None:
        assert rows(databases, lending.databases["desk"], sent) == [(3,)]

    eventually(all_sent)
    again = "UPDATE outbox SET sent_at = NULL WHERE id = (SELECT min(id) FROM outbox)"
    rows(databases, lending.databases["desk"], again)
    eventually(all_sent)
    lending.vhost.publish(
        b"{",
        exchange="lending.topic",
        routing_key="book.lent",
        headers={"lang": "py", "task": "book.lent", "id": str(uuid4())},
    )

    # Then each loan counts once, each count is noted, and the message is parked with the reason
    def handled() -> None:
        assert rows(databases, lending.databases["registry"], "SELECT * FROM loans") == [("ada", 3)]
        notes = rows(databases, lending.databases["desk"], "SELECT loans FROM notes ORDER BY 1")
        assert notes == [(1,), (2,), (3,)]
        (parked,) = lending.vhost.messages("registry.dlq")
        assert parked.headers["x-failure-exception"] == "InvalidEvent"
        # And the second publication was a duplicate
        log = (lending.folder / "registry.log").read_text()
        assert log.count('"outcome":"duplicate"') == 1
        assert '"loan_id":' in log

    eventually(handled)
