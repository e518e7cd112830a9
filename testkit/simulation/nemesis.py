"""The faults of a simulation, chosen by the seed."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from eventbus.errors import Permanent, Transient
from testkit.simulation.broker import SimulatedBroker
from testkit.simulation.processes import Process, RelayProcess
from testkit.simulation.scheduler import Scheduler

#: The share of steps before which a fault is injected.
_RATE = 0.04

_DAY = 86_400.0

#: The maximum number of jumps in a run, and the maximum duration of a jump in days. Together, they
#: are shorter than the dedup window, and each is about as long as the outage that the window allows
#: for.
_JUMPS, _LONGEST_JUMP = 3, 9

#: Seconds after a jump until the copies that waited are delivered.
_AFTER_JUMP = 100.0


class Nemesis:
    """The injection of faults until `heal` is called."""

    def __init__(
        self, broker: SimulatedBroker, scheduler: Scheduler, rng: Random, jumps: int
    ) -> None:
        self._broker = broker
        self._scheduler = scheduler
        self._rng = rng
        self._jumps_left = min(jumps, _JUMPS)
        self._failures_left = 0
        self._is_active = True
        self.processes: list[Process] = []
        self.faults = 0

    def act(self) -> None:
        """Inject a fault before some of the steps."""
        if self._rng.random() >= _RATE:
            return
        actions: list[Callable[[], None]] = [
            self._crash,
            self._crash,
            self._cut,
            self._cut,
            self._disconnect,
            self._block,
            self._unbind,
            self._fill,
            self._object,
            self._silence,
            self._refuse_connections,
            self._duplicate,
            self._fail_handlers,
        ]
        if self._jumps_left:
            actions.append(self._jump)
        self.faults += 1
        self._rng.choice(actions)()

    def heal(self) -> None:
        """End all faults. Their consequences remain."""
        self._is_active = False
        self._broker.is_blocked = False
        self._broker.unbound.clear()
        self._broker.full.clear()
        for relay in self._relays():
            relay.publisher.objects_to.clear()
            relay.publisher.silent.clear()
            relay.publisher.can_connect = True

    def handler_fault(self) -> None:
        """Fail a handler, after its effect and before the commit."""
        if self._is_active and self._failures_left and self._rng.random() < 0.5:
            self._failures_left -= 1
            raise self._rng.choice((Transient, Permanent, ValueError))("injected")

    def _relays(self) -> list[RelayProcess]:
        return [each for each in self.processes if isinstance(each, RelayProcess)]

    def _types(self) -> list[str]:
        services = self._broker.services.values()
        return sorted({event_type for each in services for event_type in each.consumed_types})

    def _crash(self) -> None:
        self._rng.choice(self.processes).crash()

    def _cut(self) -> None:
        self._rng.choice(self.processes).cut()

    def _disconnect(self) -> None:
        self._rng.choice(self.processes).disconnect()

    def _block(self) -> None:
        self._broker.is_blocked = not self._broker.is_blocked

    def _unbind(self) -> None:
        self._broker.unbound ^= {self._rng.choice(self._types())}

    def _fill(self) -> None:
        self._broker.full ^= {self._rng.choice(sorted(self._broker.queues))}

    def _object(self) -> None:
        self._rng.choice(self._relays()).publisher.objects_to ^= {self._rng.choice(self._types())}

    def _silence(self) -> None:
        self._rng.choice(self._relays()).publisher.silent ^= {self._rng.choice(self._types())}

    def _refuse_connections(self) -> None:
        publisher = self._rng.choice(self._relays()).publisher
        publisher.can_connect = not publisher.can_connect
        publisher.cut()

    def _duplicate(self) -> None:
        self._duplicate_at(self._scheduler.clock.now)

    def _duplicate_at(self, now: float) -> None:
        arrived = [
            (queue, message)
            for queue, messages in self._broker.arrivals.items()
            for message in messages
            if queue not in self._broker.observed
        ]
        if arrived:
            queue, message = self._rng.choice(arrived)
            self._broker.delayed.append((now, queue, replace(message)))

    def _fail_handlers(self) -> None:
        self._failures_left = self._rng.choice((1, 2, 5))

    def _jump(self) -> None:
        # Copies wait in the broker while days pass, as during an outage.
        self._jumps_left -= 1
        later = self._scheduler.clock.now + self._rng.randint(3, _LONGEST_JUMP) * _DAY
        for _ in range(self._rng.randint(1, 3)):
            self._duplicate_at(later + _AFTER_JUMP)
        self._scheduler.clock.advance_to(later)
