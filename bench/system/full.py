"""The system as `make up` starts it: the same servers, supervisor, programs and observers.

Only the mail server differs: it runs in this process and discards the emails, because the mail
server of `make up` is not part of the system.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import URL, create_engine
from sqlalchemy.orm import sessionmaker

from bench.load.mail_sink import MailSink
from bench.system.measured import Measured, ended, families
from bench.system.servers import PLENTY, SKUS
from common.kombu_topology import DATABASES
from deploy.local import sample
from deploy.local import stack as local
from deploy.local.processes import leftovers, programs
from deploy.local.servers import broker, certificates, credentials, database
from deploy.local.state import (
    StateDirectory,
    create_state,
    delete_state,
    empty_state,
    only_one,
)
from eventbus import tls
from eventbus.database.db import transaction
from inventory_worker import stock
from inventory_worker.movements import Note
from testkit.servers.databases import TestDatabase
from testkit.servers.vhosts import Vhost
from testkit.servers.workers import own_ports

#: Programs of the servers, whose time is counted by the name of the executable.
_SERVERS = {"postgres", "rabbitmq", "epmd"}


@dataclass(frozen=True)
class Full:
    """A local system that is prepared, and runs only during measurements."""

    run: local.Stack

    @contextmanager
    def running(self) -> Iterator[Measured]:
        """Start the system with inexhaustible stock, and stop it after the block."""
        state = self.run.state
        try:
            with _environment_kept():
                local.up(self.run)
                sample.make_api_key(state)
            measured = self._measured()
            _fill(measured)
            yield measured
        finally:
            local.down(state)

    def _measured(self) -> Measured:
        state, ports = self.run.state, self.run.ports
        reports = self.run.supervision.reports()
        leaders = {name: report.pid for name, report in reports.items() if name not in _SERVERS}
        supervisor = int((state.path / "supervisord.pid").read_text())

        def pids() -> Mapping[str, set[int]]:
            # The supervisor's children are counted individually, so only its own time is added.
            return {**families(leaders), "supervisord": {supervisor}}

        return Measured(
            name="full",
            url=programs.api_url(ports),
            api_key=credentials.read(state.secrets, credentials.API_KEY),
            databases=_databases(state, ports.postgres_port),
            vhost=Vhost(
                name=broker.VHOST,
                management_url=broker.management_url(ports),
                admin_user=broker.DEPLOYER,
                admin_password=credentials.read(state.secrets, credentials.DEPLOYER),
                amqp_port=ports.amqp_port,
                ca_file=certificates.ca_file(state),
            ),
            state=state,
            logs=state.logs,
            pids=pids,
            # The pids are checked, because a request would cost the supervisor CPU time.
            ended=lambda: ended(leaders),
            sends_mails=True,
        )


@contextmanager
def prepared(directory: Path) -> Iterator[Full]:
    """Prepare a separate system in this directory, and delete it at the end.

    Processes and files that a killed run has left there are stopped and deleted first.
    """
    state = create_state(directory)
    with only_one(state), MailSink.running() as mailbox:
        leftovers.stop(state)
        empty_state(state)
        state = create_state(directory)
        ports = own_ports().model_copy(update={"smtp_port": mailbox.port})
        local.prepare(state, ports)
        run = local.describe(state, ports)
        servers = [process for process in run.infrastructure if process.name != "mail"]
        yield Full(replace(run, infrastructure=servers))
        # After a failure, the directory remains, because it contains the logs.
        delete_state(directory)


def _fill(measured: Measured) -> None:
    engine = create_engine(measured.databases["inventory"].url)
    note = Note(reason="counted", entered_by="bench")
    with transaction(sessionmaker(engine)) as session:
        for sku in SKUS:
            stock.count(session, sku, PLENTY, note)
    engine.dispose()


def _databases(state: StateDirectory, port: int) -> Mapping[str, TestDatabase]:
    ca_file = certificates.ca_file(state)
    server = URL.create(
        "postgresql+psycopg2",
        username=database.SUPERUSER,
        password=credentials.read(state.secrets, credentials.SUPERUSER),
        host="127.0.0.1",
        port=port,
        query=tls.database_options(ca_file),
    )
    return {
        service.name: TestDatabase(server.set(database=f"{service.name}_service"), ca_file)
        for service in DATABASES
    }


@contextmanager
def _environment_kept() -> Iterator[None]:
    # `orderctl` runs in this process, and sets variables of its administrator.
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
