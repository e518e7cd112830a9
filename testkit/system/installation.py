"""An installation: a vhost, databases and a mailbox that belong to one system under test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import CursorResult, text

from common.kombu_topology import EVENTS
from console.settings import TopologySettings
from deploy.local.ports import Ports
from eventbus import tls
from eventbus.database import db
from eventbus.database.db import Sessions, engine_of, transaction
from eventbus.messaging.publisher import ConfirmingPublisher
from eventbus.settings.broker import BrokerSettings, broker_url
from order_app.storage import api_keys
from testkit.mail.mailbox import Mailbox
from testkit.processes.clocks import Clock
from testkit.servers.databases import TestDatabase
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.servers.workers import own_ports

#: Seconds before each retry. There are few retries, so that a test can observe all attempts.
RETRY_TIERS = (0.4, 0.8, 1.6)


@dataclass
class Installation:
    """The servers and the settings of a system, without its processes."""

    servers: Infrastructure
    vhost: Vhost
    mailbox: Mailbox
    databases: Mapping[str, TestDatabase]
    directory: Path
    ports: Ports = field(default_factory=own_ports)
    #: Environment variables of every process that is started from now on. All processes have the
    #: same priority, because the processors are busy with other tests.
    extra: dict[str, str] = field(default_factory=lambda: {"NICENESS": "0"})
    #: The metrics port of each program that is to expose its metrics. The API always does.
    metrics_ports: dict[str, int] = field(default_factory=dict)
    #: The broker's port of each program that connects through a proxy.
    broker_ports: dict[str, int] = field(default_factory=dict)
    #: The wall clocks of programs whose clock is shifted.
    clocks: dict[str, Clock] = field(default_factory=dict)
    #: An API key with every scope.
    api_key: str = ""
    #: Whether programs are forked. Otherwise each is executed, and has its own command line.
    forks: bool = True
    _sessions: dict[str, Sessions] = field(default_factory=dict)

    @property
    def broker_admin(self) -> TopologySettings:
        """The administrator's settings for this vhost."""
        return TopologySettings(
            **self.vhost.administrator,
            secrets_dir=self.servers.secrets_dir,
            retry_tiers=RETRY_TIERS,
        )

    def publisher(self) -> ConfirmingPublisher:
        """Return a publisher like the order relay's, which the caller must close."""
        settings = BrokerSettings(
            broker_port=self.vhost.amqp_port,
            broker_vhost=self.vhost.name,
            broker_user="order",
            broker_password=(self.servers.secrets_dir / "order.broker").read_text().strip(),
            broker_ca_file=self.vhost.ca_file,
        )
        return ConfirmingPublisher(
            broker_url(settings),
            tls=tls.broker_options(settings),
            service="order",
            user=settings.broker_user,
            exchange=EVENTS.name,
            heartbeat=30,
        )

    def make_key(self, *scopes: api_keys.Scope) -> str:
        """Create an API key with these scopes, and return it."""
        with transaction(self.sessions("order")) as session:
            return api_keys.create(session, "tests", scopes)

    def execute(self, service: str, sql: str, **parameters: Any) -> list[Any]:
        """Run a statement in a service's database, and return its first column."""
        with transaction(self.sessions(service)) as session:
            result = session.execute(text(sql), parameters)
            has_rows = isinstance(result, CursorResult) and result.returns_rows
            return list(result.scalars()) if has_rows else []

    def sessions(self, service: str) -> Sessions:
        """Return the sessions of a service's database."""
        if service not in self._sessions:
            self._sessions[service] = db.sessions(
                db.engine(self.databases[service].service_settings, pool_size=5)
            )
        return self._sessions[service]

    def close(self) -> None:
        """Close the connections to the databases."""
        for sessions in self._sessions.values():
            engine_of(sessions).dispose()
