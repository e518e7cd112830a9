"""The state of a system in which a version of an event may be retired."""

import time
from datetime import timedelta
from typing import Any

from common.events import OrderCreated, OrderCreatedV2
from console.actions.retirement import Findings, uses
from console.settings import RetirementSettings
from eventbus.events import codec
from eventbus.events.conversion import convert
from eventbus.events.envelope import Event
from eventbus.messaging.event_message import task_headers
from eventbus.topology.service import Service
from testkit.data.outboxes import CREATED, event
from testkit.servers.administration import Administration
from testkit.servers.vhosts import Vhost
from testkit.versions.migrated import MIGRATED

V1, V2 = OrderCreated.TYPE, OrderCreatedV2.TYPE

#: The time for which a consumer still uses a type after handling it.
LATELY = timedelta(hours=1)


class AdministratorSettings(Administration, RetirementSettings):
    """The settings of `orderctl contracts retire`, for a test's databases."""


class MigratedSystem:
    """A broker and databases after the last step of a move to the second version."""

    def __init__(self, settings: AdministratorSettings, broker: Vhost) -> None:
        self.settings = settings
        self.broker = broker

    def inspect(self, services: tuple[Service, ...] = MIGRATED) -> Findings:
        """Return the uses of the first version."""
        return uses(self.settings, V1, within=LATELY, services=services)

    def uses(self) -> list[tuple[str, str, int | None]]:
        """Return the kind, the place and the count of each use of the first version."""
        return [(use.kind, use.place, use.count) for use in self.inspect().uses]

    def put(self, queue: str, *events: Event, **properties: Any) -> None:
        """Put messages of these events into a queue."""
        for published in events:
            self.broker.publish(
                codec.wrap(codec.encode(published)),
                exchange="",
                routing_key=queue,
                headers=task_headers(str(published.id), published.type, None),
                message_id=str(published.id),
                timestamp=int(time.time()),
                **properties,
            )

    def ids(self, queue: str) -> list[str]:
        """Return the ids of the ready messages, oldest first. This counts as a delivery."""
        return [message.headers["id"] for message in self.broker.messages(queue)]


def in_version_2() -> Event:
    """Return a new `order.created` event in its second version."""
    return convert(event(CREATED), V2)
