"""A system under test: the real processes on a private vhost and private databases."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from common.kombu_topology import DATABASES
from order_app.storage import api_keys
from testkit.mail.mailbox import Mailbox
from testkit.servers.databases import TestDatabase
from testkit.servers.declaration import declare
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import Vhost
from testkit.system.installation import RETRY_TIERS
from testkit.system.process_control import ProcessControl
from testkit.system.shop import Shop

__all__ = ["ORDER_FLOW", "ORDER_FLOW_WITH_MAILS", "RETRY_TIERS", "Stack"]

#: The programs that decide an order, without emails, the fraud check and analytics.
ORDER_FLOW = (
    "api",
    "order-worker",
    "order-relay",
    "inventory-worker",
    "inventory-relay",
    "beat",
)

#: The programs that decide an order, and deliver its emails.
ORDER_FLOW_WITH_MAILS = (*ORDER_FLOW, "notification-worker", "notification-mailer")


@dataclass
class Stack(ProcessControl, Shop):
    """The whole system: its installation, its processes and its shop."""

    @classmethod
    @contextmanager
    def on(
        cls,
        servers: Infrastructure,
        database_of: Callable[[str], TestDatabase],
        vhost: Vhost,
        mailbox: Mailbox,
        directory: Path,
    ) -> "Iterator[Stack]":
        """Apply the topology, and stop every process after the block."""
        databases = {service.name: database_of(service.name) for service in DATABASES}
        stack = cls(servers, vhost, mailbox, databases, directory)
        declare(stack.broker_admin)
        stack.api_key = stack.make_key(*api_keys.Scope)
        try:
            yield stack
        finally:
            stack.stop()
            stack.close()

    def start_failing(self) -> None:
        """Start an inventory worker that fails as the customer's address specifies."""
        attempts = self.directory / "attempts"
        attempts.mkdir(exist_ok=True)
        self.extra["ATTEMPTS"] = str(attempts)
        self.start("inventory-worker", module="testkit.programs.failing.inventory_worker")

    def trace(self) -> None:
        """Start the span store; processes that are started from now on record spans."""
        self.start("spans")
        self.extra["OTLP_ENDPOINT"] = f"http://127.0.0.1:{self.ports.spans_port}"

    def deliveries(self, worker: str, event_type: str, order_id: str | None = None) -> int:
        """Return the number of deliveries of a type in a worker's log, for one order or for all."""
        lines = [json.loads(line) for line in self.log(worker).splitlines() if line.startswith("{")]
        return sum(
            1
            for line in lines
            if line.get("event_type") == event_type
            and "attempt" in line
            and order_id in (None, line["order_id"])
        )
