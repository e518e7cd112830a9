"""The directory with everything that a local run stores: data, secrets, logs, pids."""

# ruff: noqa: S603, every command is a list of this project's constants

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from deploy.local.problem import Problem
from deploy.local.servers import account

#: Maximum length of the path in characters. A unix socket's path may have 107, and processes create
#: sockets in `tmp`, such as `tmp/pymp-xxxxxxxx/listener-xxxxxxxx`.
LONGEST_PATH = 70

#: Bytes that must be free at the start: with less, RabbitMQ soon stops accepting messages.
FREE_SPACE = 1_000_000_000

#: A pattern of the paths that RabbitMQ's scripts accept, because they do not quote the path.
PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)


@dataclass(frozen=True)
class StateDirectory:
    """The paths of one local run; `path` is absolute and contains no symbolic link."""

    path: Path

    @property
    def secrets(self) -> Path:
        """One file for each password."""
        return self.path / "secrets"

    @property
    def tls(self) -> Path:
        """The private certificate authority and the servers' certificates."""
        return self.path / "tls"

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.path / "logs"

    @property
    def health(self) -> Path:
        """One file for each worker, touched while it is healthy."""
        return self.path / "health"

    @property
    def temporary(self) -> Path:
        """The temporary files of processes, which would stay in /tmp indefinitely."""
        return self.path / "tmp"

    @property
    def operator_environment(self) -> Path:
        """The settings of `orderctl` for this run."""
        return self.path / "operator.env"

    @property
    def ports(self) -> Path:
        """The ports that the last `make up` chose."""
        return self.path / "ports.json"

    @property
    def division(self) -> Path:
        """The numbers of relays and of parts of queues of the last `make up`."""
        return self.path / "division.json"

    @property
    def complete(self) -> Path:
        """A file that exists once `make up` has completed, until a process is started again."""
        return self.path / "complete"

    def log(self, process: str) -> Path:
        """Return the log of one process."""
        return self.logs / f"{process}.log"


def open_state(path: Path) -> StateDirectory | None:
    """Return the state directory at `path`, or None if it does not exist.

    Raises `Problem` if it belongs to another user.
    """
    real = path.resolve()
    if not real.is_dir():
        return None
    if (owner := real.stat().st_uid) != os.geteuid():
        name = account.name_of(owner)
        raise Problem(f"{path} belongs to the user {name}: run this as {name}")
    return StateDirectory(real)


def create_state(path: Path) -> StateDirectory:
    """Return the state directory at `path`, created where every process can use it.

    If `path` itself is not suitable, it becomes a symbolic link into /var/tmp. Raises `Problem` if
    it cannot be created or its disk is full.
    """
    try:
        state = open_state(path) or _make(path)
        # Servers that run as another user pass through it, but cannot read its content.
        state.path.chmod(0o711 if os.geteuid() == 0 else 0o700)
        if reason := _unusable(state.path):
            if state.secrets.exists():
                raise Problem(f"{path} cannot be used: {reason}; delete it with: make reset")
            state = _move(path, reason)
        for directory in (state.secrets, state.logs, state.health):
            account.invoking().directory(directory)
        account.invoking().directory(state.temporary).chmod(0o1777)
    except OSError as error:
        raise Problem(f"cannot write {error.filename or path}: {error.strerror}") from None
    free = shutil.disk_usage(state.path).free
    if free < FREE_SPACE:
        raise Problem(
            f"the disk of {state.path} has {free // 1_000_000} MB free, 1000 MB are required"
        )
    return state


def empty_state(state: StateDirectory) -> None:
    """Delete the content of a state directory without running processes."""
    for path in state.path.iterdir():
        delete(path)


def delete(path: Path) -> None:
    """Delete a file, or a directory with its content, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def delete_state(path: Path) -> None:
    """Delete the state directory at `path`, including the target of a symbolic link."""
    if state := open_state(path):
        shutil.rmtree(state.path)
    if path.is_symlink():
        path.unlink()


@contextmanager
def only_one(state: StateDirectory) -> Iterator[None]:
    """Lock the state directory against changes by other commands.

    Raises `Problem` immediately if another command has locked it, or is deleting it.
    """
    running = Problem(f"another command is running in {state.path}; wait for it")
    try:
        directory = os.open(state.path, os.O_RDONLY)
    except FileNotFoundError:
        raise running from None
    try:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise running from None
        # `reset` holds the lock of a directory until it is deleted.
        if not _is_at(directory, state.path):
            raise running
        yield
    finally:
        os.close(directory)


def _is_at(directory: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(directory), path.stat())
    except FileNotFoundError:
        return False


def _make(path: Path) -> StateDirectory:
    if path.is_symlink():
        path.unlink()
    path.mkdir(parents=True)
    return StateDirectory(path.resolve())


def _move(path: Path, reason: str) -> StateDirectory:
    real = Path(tempfile.mkdtemp(prefix="orders-", dir="/var/tmp")).resolve()
    real.chmod(path.stat().st_mode)
    # The directory may contain the state directory of a test run.
    for inner in path.iterdir():
        shutil.move(inner, real)
    path.rmdir()
    path.symlink_to(real)
    click.echo(f"  {path.name} is a link to {real}: {reason}")
    return StateDirectory(real)


def _unusable(path: Path) -> str | None:
    if len(str(path)) > LONGEST_PATH:
        return "its own path is too long for a unix socket"
    if not PLAIN_PATH.fullmatch(str(path)):
        return "RabbitMQ cannot run in a path with such characters"
    if os.geteuid() == 0:
        user = account.unprivileged("postgres")
        probe = subprocess.run(
            ["/usr/bin/test", "-x", path], check=False, cwd="/", **user.subprocess_arguments()
        )
        if probe.returncode != 0:
            return f"the user {user.name} cannot enter its own path"
    return None
