"""A vhost for each test, with its messages and the management API."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from kombu.message import Message

from eventbus import tls
from eventbus.messaging.amqps import Connection
from testkit.eventually import PATIENCE
from testkit.servers.infrastructure import Infrastructure


@dataclass(frozen=True)
class Vhost:
    """A vhost, and its administrator's addresses and credentials."""

    name: str
    management_url: str
    admin_user: str
    admin_password: str
    amqp_port: int
    ca_file: Path

    @property
    def amqp_url(self) -> str:
        """The administrator's AMQP address."""
        return f"amqps://{self.admin_user}:{self.admin_password}@127.0.0.1:{self.amqp_port}/{self.name}"

    @property
    def administrator(self) -> dict[str, Any]:
        """The fields of `BrokerAdminSettings` and of its subclasses."""
        return {
            "broker_admin_url": self.management_url,
            "broker_admin_user": self.admin_user,
            "broker_admin_password": self.admin_password,
            "broker_vhost": self.name,
            "broker_port": self.amqp_port,
            "broker_ca_file": self.ca_file,
        }

    @property
    def tls(self) -> dict[str, Any]:
        """The TLS options of kombu."""
        return tls.amqp_options(self.ca_file, "127.0.0.1")

    def connect(self, **transport_options: Any) -> Connection:
        """Return an AMQP connection of the administrator, which is opened at its first use."""
        return Connection(self.amqp_url, ssl=self.tls, transport_options=transport_options)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request to the management API. Raises an exception for an error status."""
        with httpx.Client(
            base_url=f"{self.management_url}/api",
            auth=(self.admin_user, self.admin_password),
            timeout=PATIENCE,
            verify=tls.http_context(self.ca_file),
        ) as client:
            response = client.request(method, path, **options)
            response.raise_for_status()
            return response

    def depth(self, queue: str) -> int:
        """Return the number of ready messages in a queue, without unacknowledged messages."""
        with self.connect() as connection:
            ready = connection.default_channel.queue_declare(queue, passive=True).message_count
        return int(ready)

    def messages(self, queue: str) -> list[Message]:
        """Return the ready messages of a queue, without removing them."""
        with self.connect() as connection:
            channel = connection.channel()
            messages = []
            while (message := channel.basic_get(queue)) is not None:
                messages.append(message)
            # Closing the channel requeues them.
            return messages

    def publish(
        self,
        body: bytes,
        *,
        exchange: str,
        routing_key: str,
        headers: dict[str, Any],
        **properties: Any,
    ) -> None:
        """Publish bytes with any headers and properties."""
        from amqp import Message as AmqpMessage

        options = {"content_type": "application/json", "content_encoding": "utf-8"} | properties
        with self.connect(confirm_publish=True) as connection:
            message = AmqpMessage(body, application_headers=headers, delivery_mode=2, **options)
            connection.default_channel.basic_publish(
                message, exchange=exchange, routing_key=routing_key, confirm_timeout=PATIENCE
            )


@contextmanager
def fresh_vhost(servers: Infrastructure) -> Iterator[Vhost]:
    """Create an empty vhost, and delete it after the block unless the broker was restarted.

    The deletion of a quorum queue during its leader election can crash RabbitMQ 3.10's
    `rabbit_fifo_dlx_sup`. Without this process, no queue dead-letters at least once, or even opens,
    until a restart. Such a vhost therefore remains until the broker exits.
    """
    fresh = Vhost(
        name=f"test-{uuid4().hex[:8]}",
        management_url=servers.management_url,
        admin_user="deployer",
        admin_password=servers.deployer_password,
        amqp_port=servers.amqp_port,
        ca_file=servers.ca_file,
    )
    fresh.request("PUT", f"/vhosts/{fresh.name}", json={"default_queue_type": "classic"})
    fresh.request(
        "PUT",
        f"/permissions/{fresh.name}/{fresh.admin_user}",
        json={"configure": ".*", "write": ".*", "read": ".*"},
    )
    restarts = servers.restarts
    yield fresh
    if servers.restarts == restarts:
        fresh.request("DELETE", f"/vhosts/{fresh.name}")
