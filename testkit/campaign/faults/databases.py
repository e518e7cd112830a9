"""Faults of the database server, and of the database of one service."""

import os
import signal
from contextlib import AbstractContextManager

from sqlalchemy import text

from common.kombu_topology import SERVICES
from eventbus.database.db import engine_of
from testkit.campaign.fault import Fault, ServerFault
from testkit.campaign.system import DATABASE
from testkit.servers.databases import TestDatabase
from testkit.servers.outages import exhausted, read_only


class DatabaseKill(Fault):
    """A backend is killed, as by the OOM killer of the kernel, and the server ends all sessions.

    The servers must be durable. Otherwise the last commits are lost.
    """

    name = "database-kill"

    def choose(self) -> None:
        self.targets = frozenset({DATABASE})

    def inject(self) -> None:
        with engine_of(self.stack.sessions("order")).connect() as connection:
            (pid,) = connection.execute(text("SELECT pg_backend_pid()")).scalars()
            os.kill(pid, signal.SIGKILL)
            # The session has ended with its backend.
            connection.invalidate()

    def heal(self) -> None:
        # The recovery takes many seconds on a busy disk.
        self.stack.servers.start_database()
        self.stack.close()


class DatabaseRestart(ServerFault):
    """The database server is shut down, and starts again."""

    name = "database-restart"
    server = DATABASE
    hold = (1.0, 4.0)

    def outage(self) -> AbstractContextManager[object]:
        return self.stack.servers.database_shut_down()

    def heal(self) -> None:
        super().heal()
        self.stack.close()


class _OneDatabase(ServerFault):
    server = DATABASE

    def choose(self) -> None:
        super().choose()
        self.detail = self.rng.choice([service.name for service in SERVICES])

    @property
    def database(self) -> TestDatabase:
        """The database of the chosen service."""
        return self.stack.databases[self.detail]


class ReadOnly(_OneDatabase):
    """The database of one service accepts no writes."""

    name = "read-only"

    def outage(self) -> AbstractContextManager[object]:
        return read_only(self.database)


class NoConnections(_OneDatabase):
    """The database of one service accepts no connections."""

    name = "no-connections"

    def outage(self) -> AbstractContextManager[object]:
        return exhausted(self.database)
