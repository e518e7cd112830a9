"""The system under measurement: private servers, durable as in production, and real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import URL, Connection, Engine, create_engine, text

from bench.load.mail_sink import MailSink
from common.kombu_topology import CONSUMERS
from deploy.local import REPOSITORY
from deploy.local.problem import Problem
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases, TestDatabase
from testkit.servers.infrastructure import infrastructure
from testkit.servers.vhosts import fresh_vhost

#: The ordered SKUs, and a quantity that is never exhausted.
SKUS = tuple(f"BENCH-{number:02}" for number in range(20))
PLENTY = 10**9

#: The application name of the benchmark's own database connections.
NAME = "bench"

#: Tables that remain when a system is emptied: those with rows before the first order.
_KEPT = (
    "alembic_version",
    "eventbus_version",
    "api_keys",
    "stock",
    "stock_entries",
    "relay_state",
    "overflow",
)

_FILLED = """
SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables
WHERE schemaname = 'public' AND tablename <> ALL (:kept)
"""


class Stored(Protocol):
    """A system with databases."""

    @property
    def databases(self) -> Mapping[str, TestDatabase]:
        """The database of each service."""


@contextmanager
def system(directory: Path) -> Iterator[Stack]:
    """Run the servers with an empty system whose processes are not started yet."""
    with (
        infrastructure(directory / "servers", durable=True) as servers,
        MailSink.running() as mailbox,
        fresh_vhost(servers) as vhost,
    ):
        databases = Databases.prepare(servers)
        processes = directory / "processes"
        processes.mkdir(parents=True, exist_ok=True)
        with (
            databases.fresh() as database_of,
            Stack.on(servers, database_of, vhost, mailbox, processes) as stack,
        ):
            # Measure executed programs with their priorities, as in production.
            stack.forks = False
            del stack.extra["NICENESS"]
            stack.stock(**dict.fromkeys(SKUS, PLENTY))
            yield stack


def execute(
    system: Stored, service: str, statement: str, **parameters: object
) -> list[tuple[Any, ...]]:
    """Run a statement in its own transaction in a service's database, and return its rows."""
    with connection(system, service) as database:
        result = database.execute(text(statement), parameters)
        return [tuple(row) for row in result] if result.returns_rows else []


@contextmanager
def connection(system: Stored, service: str) -> Iterator[Connection]:
    """Connect to a service's database with autocommit; excluded from the price of an order."""
    with _engine(system.databases[service].url).connect() as connection:
        yield connection


def empty(stack: Stack) -> None:
    """Delete all orders and events from the databases and the queues; the stock remains."""
    for service in CONSUMERS:
        ((tables,),) = execute(stack, service.name, _FILLED, kept=list(_KEPT))
        execute(stack, service.name, f"TRUNCATE {tables} CASCADE")
    purge(stack)
    stack.mailbox.messages.clear()
    checkpoint(stack)


def checkpoint(stack: Stack) -> None:
    """Write the database's dirty pages now rather than during a measurement."""
    execute(stack, "order", "CHECKPOINT")


def purge(stack: Stack) -> None:
    """Empty the services' queues."""
    for service in CONSUMERS:
        stack.vhost.request("DELETE", f"/queues/{stack.vhost.name}/{service.queue}/contents")


def until(done: Callable[[], bool], what: str, *, within: float, every: float = 0.2) -> None:
    """Wait until `done` returns true; raises `Problem` with `what` after `within` seconds."""
    deadline = time.monotonic() + within
    while not done():
        if time.monotonic() > deadline:
            raise Problem(f"{what}: not within {within:.0f} seconds")
        time.sleep(every)


@contextmanager
def process(command: Sequence[str], log: Path, **environment: str) -> Iterator[int]:
    """Run a process and its children during the block, and yield its pid."""
    with log.open("w") as output:
        running = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                str(Path(sys.executable).parent / command[0]),
                *command[1:],
            ],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield running.pid
        finally:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


@cache
def _engine(url: URL) -> Engine:
    # A separate engine is used: its application name excludes its cost from every figure.
    connect_args = {"application_name": NAME}
    options: dict[str, Any] = {"pool_size": 1, "pool_pre_ping": True}
    return create_engine(url, **options, isolation_level="AUTOCOMMIT", connect_args=connect_args)
