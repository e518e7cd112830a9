"""A simulated publisher alone, for tests that a real publisher also passes."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from common.kombu_topology import INVENTORY, NOTIFICATION, ORDER
from testkit.simulation.broker import SimulatedBroker
from testkit.simulation.clock import VirtualClock
from testkit.simulation.publisher import SimulatedPublisher
from testkit.simulation.scheduler import Scheduler

#: Number of steps within which a test must end.
_MOST_STEPS = 10_000


class SimulatedRig:
    """A publisher, its broker, and the faults of both."""

    def __init__(self, seed: int) -> None:
        rng = Random(seed)
        self.clock = VirtualClock()
        self._scheduler = Scheduler(self.clock, rng)
        self.broker = SimulatedBroker(self.clock, rng, (ORDER, INVENTORY, NOTIFICATION))
        # The queues have no consumers, so messages stay in them.
        self.publisher = SimulatedPublisher("order", self.broker, self._scheduler, rng)
        self._scheduler.add(self.publisher)

    def run(self, body: Callable[[], None]) -> None:
        """Run a function as the only actor; raise its error."""
        actor = self._scheduler.start("test", body)
        while not actor.has_ended:
            self._scheduler.step()
            assert self._scheduler.steps < _MOST_STEPS

    def unbind(self, event_type: str) -> None:
        """Remove all bindings of a type."""
        self.broker.unbound.add(event_type)

    def fill(self, event_type: str) -> None:
        """Bind another queue to a type, which rejects it."""
        full = replace(INVENTORY, name="full", consumes=(event_type,))
        self.broker.services[full.queue] = full
        self.broker.full.add(full.queue)

    def object_to(self, event_type: str) -> None:
        """Close the channel of each message of this type."""
        self.publisher.objects_to.add(event_type)

    def cut(self) -> None:
        """End the connection."""
        self.publisher.cut()

    def arrived(self) -> list[str]:
        """Return the ids of the events in the queue of the notification service, oldest first."""
        return [message.event_id for message in self.broker.arrivals[NOTIFICATION.queue]]
