"""Changing a queue's number of parts while its publishers and its queues are idle.

New routes are made before old routes are removed. An event that unexpectedly arrives in between is
therefore delivered twice rather than lost, and the inbox drops the duplicate.
"""

import time
from collections.abc import Callable, Iterator, Sequence

from console.broker import permissions_diff, topology_diff
from console.broker.connection import connected
from console.broker.management import Management
from console.broker.settled_counts import ready
from console.broker.state import BrokerState, figure
from console.broker.topology_diff import Difference, Request
from console.errors import ActionError
from console.settings import BrokerAdminSettings
from eventbus.topology.objects import Topology
from eventbus.topology.service import Service

#: Maximum seconds for which queues may still have messages. In the meantime, new events wait in the
#: outbox.
PATIENCE = 120.0

#: Seconds for which the broker's counts must be 0, which is longer than 5 seconds because the
#: counts may be that old.
SETTLED = 7.0

#: Seconds between two counts.
_PAUSE = 0.5

Changed = Callable[[Difference], None]


class Scaling:
    """The change of the number of parts of one service's queue."""

    def __init__(
        self, settings: BrokerAdminSettings, broker: Management, service: Service, changed: Changed
    ) -> None:
        """`changed` is called after each change."""
        self._settings = settings
        self._broker = broker
        self._service = service
        self._changed = changed

    def await_empty(self, queues: Sequence[str]) -> None:
        """Wait until the queues are empty and their consumers do not hold messages.

        Raises `ActionError` after `PATIENCE` seconds.
        """
        started = busy_at = time.monotonic()
        while (now := time.monotonic()) - busy_at <= SETTLED:
            # A missing count is not 0.
            busy = [name for name in queues if self._messages(name) != 0]
            if busy:
                busy_at = now
            if now - started > PATIENCE:
                raise ActionError(
                    f"{', '.join(busy or queues)}: never empty for {SETTLED:.0f} seconds in a row"
                    f" within {PATIENCE:.0f} seconds; are the workers running?"
                )
            time.sleep(_PAUSE)

    def make(self, wanted: Topology) -> None:
        """Make the service's queues, routes and permissions match the topology.

        Raises `ActionError`; a queue with messages is never deleted.
        """
        state = BrokerState.read(self._broker)
        for difference in self._missing(wanted, state):
            self._apply(difference)
        for difference in self._obsolete(wanted, state):
            self._apply(difference)

    def _missing(self, wanted: Topology, state: BrokerState) -> Iterator[Difference]:
        permissions = permissions_diff.differences(
            wanted, state, deployer=self._broker.user, passwords=lambda _: None
        )
        for difference in permissions:
            if (difference.kind, difference.name) == ("permission", self._service.name):
                yield difference
        for difference in topology_diff.differences(wanted, state):
            # Only this service's objects are changed, because other services' objects may be about
            # to change.
            if difference.problem == topology_diff.MISSING and self._is_own(difference):
                yield difference

    def _obsolete(self, wanted: Topology, state: BrokerState) -> Iterator[Difference]:
        service, vhost = self._service, state.vhost
        for binding in state.bindings:
            is_route = topology_diff.is_route(binding, service)
            if not (is_route or binding["source"] == service.part_exchange):
                continue
            if topology_diff.plain(binding) not in wanted.bindings:
                yield topology_diff.extra_binding(binding, wanted, vhost, prune=True)
        kept = {queue.name for queue in wanted.queues}
        for name in sorted(state.queues):
            if service.is_part_queue(name) and name not in kept:
                self._require_empty(name)
                yield _gone("queue", Request(method="DELETE", path=("queues", vhost, name)))
        exchanges = {exchange.name for exchange in wanted.exchanges}
        if service.part_exchange in state.exchanges and service.part_exchange not in exchanges:
            path = ("exchanges", vhost, service.part_exchange)
            yield _gone("exchange", Request(method="DELETE", path=path))

    def _is_own(self, difference: Difference) -> bool:
        if difference.request is None:
            return False
        # For a binding, this is the destination.
        name = difference.request.path[-1]
        return name == self._service.part_exchange or self._service.is_part_queue(name)

    def _apply(self, difference: Difference) -> None:
        if request := difference.request:
            self._broker.send(request.method, *request.path, body=request.body)
            self._changed(difference)

    def _messages(self, name: str) -> int | None:
        return figure(self._broker.get("queues", self._broker.vhost, name), "messages")

    def _require_empty(self, name: str) -> None:
        # The count is read over AMQP, so it is current. Messages are no longer routed to the queue.
        with connected(self._settings) as connection:
            if count := ready(connection.channel(), name):
                raise ActionError(f"{name} has {count} messages and is not deleted")


def _gone(kind: str, request: Request) -> Difference:
    return Difference(kind=kind, name=request.path[-1], problem="not in use", request=request)
