"""A private PostgreSQL server."""

# ruff: noqa: S603, every command is a list of this project's constants

import shutil
import subprocess
from hashlib import sha256
from pathlib import Path

from deploy.local.ports import Ports
from deploy.local.problem import Problem
from deploy.local.processes.health import accepts_connections
from deploy.local.processes.process import Process
from deploy.local.servers import certificates, credentials
from deploy.local.servers.account import Account, unprivileged
from deploy.local.state import StateDirectory
from deploy.local.templates import render

SUPERUSER = "postgres"
INSTALLATIONS = Path("/usr/lib/postgresql")
OLDEST_VERSION = 15

#: The text of pg_hba.conf: connections require TLS and a password. Without TLS, no line matches.
_ACCESS = "# Written by `make up`.\nhostssl all all 127.0.0.1/32 scram-sha-256\n"


def prepare(state: StateDirectory, ports: Ports, *, durable: bool = True) -> None:
    """Create the server's data directory, if it does not exist, and its configuration.

    The secrets and the certificates must exist. Without `durable`, a crash of the machine may lose
    data. Raises `Problem` if the data directory cannot be created.
    """
    user = unprivileged("postgres")
    home = user.directory(_home(state))
    if not _data(state).exists():
        password = credentials.read(state.secrets, credentials.SUPERUSER)
        _create_data(user, home, password, state.log("initdb"), durable)
    user.file(_data(state) / "postgresql.conf", _configuration(state, ports, durable))
    user.file(_data(state) / "pg_hba.conf", _ACCESS)


def process(state: StateDirectory, ports: Ports, *, durable: bool = True) -> Process:
    """Return the server, of the version that created its data. The secrets must exist.

    Raises `Problem` if that version is not installed.
    """
    password = credentials.read(state.secrets, credentials.SUPERUSER)
    return Process(
        name="postgres",
        command=(str(programs(_version(state)) / "postgres"), "-D", str(_data(state))),
        environment={
            "HOME": str(_home(state)),
            # A changed configuration is a changed process: the supervisor restarts it.
            "CONFIGURATION": sha256(
                (_configuration(state, ports, durable) + _ACCESS).encode()
            ).hexdigest(),
        },
        check=accepts_connections(
            ports.postgres_port, SUPERUSER, password, ca_file=certificates.ca_file(state)
        ),
        ports={"POSTGRES_PORT": ports.postgres_port},
        directory=_home(state),
        account=unprivileged("postgres"),
        # SIGINT requests a "fast" shutdown. A "smart" shutdown waits for clients to disconnect.
        stop_signal="INT",
        stop_seconds=60,
    )


def _create_data(user: Account, home: Path, password: str, log: Path, durable: bool) -> None:
    # The directory has another name until it is complete, so that the result of an interrupted
    # initdb is not used as data.
    partial = home / "data.partial"
    shutil.rmtree(partial, ignore_errors=True)
    password_file = user.file(home / "password", password)
    command = [
        str(programs() / "initdb"),
        f"--pgdata={partial}",
        f"--username={SUPERUSER}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
        "--data-checksums" if durable else "--no-sync",
    ]
    try:
        with log.open("w") as output:
            subprocess.run(
                command,
                check=True,
                cwd=home,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
                stdout=output,
                stderr=subprocess.STDOUT,
                **user.subprocess_arguments(),
            )
    except subprocess.CalledProcessError:
        raise Problem(f"initdb failed; see {log}") from None
    finally:
        password_file.unlink()
    partial.rename(home / "data")


def _home(state: StateDirectory) -> Path:
    return state.path / "postgres"


def _data(state: StateDirectory) -> Path:
    return _home(state) / "data"


def _configuration(state: StateDirectory, ports: Ports, durable: bool) -> str:
    return render(
        "postgresql.conf.j2",
        ports=ports,
        durable=durable,
        server_file=certificates.server_file(state, "postgres"),
    )


def _version(state: StateDirectory) -> int | None:
    version_file = _data(state) / "PG_VERSION"
    return int(version_file.read_text()) if version_file.exists() else None


def programs(version: int | None = None) -> Path:
    """Return the directory of PostgreSQL's programs, of this version or of the newest."""
    installed = {
        int(path.parent.parent.name): path.parent for path in INSTALLATIONS.glob("*/bin/initdb")
    }
    wanted = version or max(installed, default=0)
    if wanted < OLDEST_VERSION or wanted not in installed:
        required = version or f">= {OLDEST_VERSION}"
        raise Problem(f"PostgreSQL {required} is not installed (package postgresql)")
    return installed[wanted]
