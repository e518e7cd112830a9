"""The database server of simulations, which run without a broker, durability, TLS and passwords."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, create_engine, pool
from sqlalchemy.exc import OperationalError

from common.kombu_topology import INVENTORY, ORDER
from deploy.local.processes import leftovers
from deploy.local.servers.account import Account, unprivileged
from deploy.local.servers.database import SUPERUSER, programs
from deploy.local.state import create_state, delete_state, empty_state, only_one
from eventbus.database import migrations

#: The services under simulation.
_SERVICES = (ORDER, INVENTORY)

#: Only local processes of a simulation connect, and nothing is kept. Autovacuum would make the
#: duration of a statement, and its locks, depend on earlier seeds.
_PARAMETERS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "jit": "off",
    "max_connections": "200",
    "timezone": "UTC",
}

#: The signal that ends the server and its sessions without a shutdown, because its data is not used
#: again.
_END = signal.SIGQUIT

#: Maximum seconds for the server's start.
_PATIENCE = 60.0


@dataclass(frozen=True)
class DatabaseServer:
    """A server whose unix socket is in `directory`, with a migrated template of each database."""

    directory: Path

    def url(self, database: str) -> URL:
        """Return the URL of a database, for the superuser."""
        return URL.create(
            "postgresql+psycopg2",
            username=SUPERUSER,
            database=database,
            query={"host": str(self.directory)},
        )

    def copies(self, suffix: str) -> dict[str, URL]:
        """Create a copy of each template; return their URLs by the name of the service."""
        names = {service.name: f"{service.name}_{suffix}" for service in _SERVICES}
        for service, name in names.items():
            self._run(f"CREATE DATABASE {name} TEMPLATE {service}_template")
        return {service: self.url(name) for service, name in names.items()}

    def prepare(self) -> None:
        """Create the templates once the server accepts connections."""
        deadline = time.monotonic() + _PATIENCE
        while not self._accepts_connections() and time.monotonic() < deadline:
            time.sleep(0.05)
        for service in _SERVICES:
            template = f"{service.name}_template"
            self._run(f"CREATE DATABASE {template}")
            migrations.upgrade(service, self.url(template))

    def _accepts_connections(self) -> bool:
        try:
            self._run("SELECT 1")
        except OperationalError:
            return False
        return True

    def _run(self, statement: str) -> None:
        engine = create_engine(
            self.url("postgres"), poolclass=pool.NullPool, isolation_level="AUTOCOMMIT"
        )
        with engine.connect() as connection:
            connection.exec_driver_sql(statement)


@contextmanager
def database_server(state_dir: Path) -> Iterator[DatabaseServer]:
    """Run a server with its files in `state_dir` during the block.

    It exits with this process, even when that is killed. Processes and files that a killed run has
    left in `state_dir` are stopped and deleted first. Raises `deploy.local.problem.Problem` if
    another run uses it.
    """
    state = create_state(state_dir)
    with only_one(state):
        leftovers.stop(state)
        empty_state(state)
        user = unprivileged("postgres")
        home = user.directory(create_state(state_dir).path / "postgres")
        environment = {
            "PATH": "/usr/bin:/bin",
            "LANG": "C.UTF-8",
            leftovers.MARK: str(state.path),
        }
        with (home.parent / "logs" / "postgres.log").open("wb") as log:
            _initialize(user, home, environment)
            process = subprocess.Popen(
                _command(home),
                cwd=home,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **user.subprocess_arguments(),
            )
        try:
            server = DatabaseServer(home)
            server.prepare()
            yield server
        finally:
            process.send_signal(_END)
            process.wait()
        # The directory is not deleted after a failure, because it contains the log.
        delete_state(state_dir)


def _initialize(user: Account, home: Path, environment: dict[str, str]) -> None:
    subprocess.run(
        [
            str(programs() / "initdb"),
            f"--pgdata={home / 'data'}",
            f"--username={SUPERUSER}",
            # The directory of the socket belongs to one user.
            "--auth=trust",
            "--no-sync",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ],
        check=True,
        capture_output=True,
        cwd=home,
        env=environment,
        **user.subprocess_arguments(),
    )


def _command(home: Path) -> list[str]:
    parameters = _PARAMETERS | {"unix_socket_directories": str(home)}
    options = [f"--{name}={value}" for name, value in parameters.items()]
    postgres = str(programs() / "postgres")
    death = ["setpriv", "--pdeathsig", _END.name.removeprefix("SIG")]
    return [*death, postgres, "-D", str(home / "data"), *options]
