"""The processes of a simulation, each of which can be crashed at a point and is then restarted."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Protocol

from eventbus.consumer.receive import Handlers
from eventbus.consumer.retention import INBOX, OUTBOX, Retention
from eventbus.outbox import relay
from eventbus.outbox.relay import Relay
from eventbus.topology.service import Service
from testkit.simulation.broker import SimulatedBroker
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.publisher import SimulatedPublisher
from testkit.simulation.scheduler import Actor, Scheduler
from testkit.simulation.worker import Fault, SimulatedWorker, recording

#: Seconds of one drain, and between two passes of retention.
_DRAIN, _PASS = 10.0, 60.0

#: Days for which rows are kept, as in the defaults of `eventbus.settings.dedup_window`.
OUTBOX_DAYS, INBOX_DAYS = 14, 30


class Process(Protocol):
    """A process under simulation."""

    name: str

    def start(self) -> None:
        """Start the process."""

    def crash(self) -> None:
        """Kill the process, which ends its connections, and start it again."""

    def cut(self) -> None:
        """End its connection to the broker."""

    def disconnect(self) -> None:
        """End its connections to the database."""

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing in flight."""


class RelayProcess:
    """A relay, of which a service may run several."""

    def __init__(
        self,
        name: str,
        database: SimulatedDatabase,
        broker: SimulatedBroker,
        scheduler: Scheduler,
        rng: Random,
        sent_as: Sequence[str],
    ) -> None:
        self.name = name
        self._database = database
        self._broker = broker
        self._scheduler = scheduler
        self._rng = rng
        self._sent_as = sent_as
        self._actor: Actor
        self.publisher: SimulatedPublisher

    def start(self) -> None:
        """Start the process."""
        self.publisher = SimulatedPublisher(self.name, self._broker, self._scheduler, self._rng)
        self._scheduler.add(self.publisher)
        sessions = self._database.sessions(self.name, relay.SESSION)
        running = Relay(sessions, self.publisher, sent_as=self._sent_as)

        def run() -> None:
            clock = self._scheduler.clock
            while True:
                running.drain(clock.now + _DRAIN)
                self._scheduler.wait(clock.now + 0.1)

        self._actor = self._scheduler.start(self.name, run)

    def crash(self) -> None:
        """Kill the process, which ends its connections, and start it again."""
        before = self.publisher
        self._database.kill(self.name)
        before.cut()
        self._scheduler.remove(before)
        self._scheduler.crash(self._actor)
        self.start()
        self.publisher.can_connect = before.can_connect

    def cut(self) -> None:
        """End its connection to the broker."""
        self.publisher.cut()

    def disconnect(self) -> None:
        """End its connections to the database."""
        self._database.disconnect(self.name)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing in flight."""
        return self.publisher.is_idle


class WorkerProcess:
    """A worker with one child, of which a service may run several."""

    def __init__(
        self,
        name: str,
        service: Service,
        database: SimulatedDatabase,
        broker: SimulatedBroker,
        scheduler: Scheduler,
        rng: Random,
        handlers: Handlers,
        fault: Fault,
    ) -> None:
        self.name = name
        self._database = database
        self._scheduler = scheduler
        self._rng = rng
        self._make: Callable[[], SimulatedWorker] = lambda: SimulatedWorker(
            service, broker, scheduler, rng
        )
        self._handlers = recording(handlers, fault)
        self.worker: SimulatedWorker
        self._loop: Actor
        self._child: Actor

    def start(self) -> None:
        """Start the process."""
        self.worker = self._make()
        self._loop = self._scheduler.start(self.name, self.worker.run)
        self._start_child()

    def crash(self) -> None:
        """Kill the process or, equally often, only its child, and restart the killed part."""
        self._database.kill(self.name)
        self._scheduler.crash(self._child)
        if self._rng.random() < 0.5:
            self.worker.lose_child()
            self._start_child()
            return
        self.worker.cut()
        self._scheduler.crash(self._loop)
        self.start()

    def cut(self) -> None:
        """End its connection to the broker."""
        self.worker.cut()

    def disconnect(self) -> None:
        """End its connections to the database."""
        self._database.disconnect(self.name)

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing in flight."""
        return self.worker.is_idle

    def _start_child(self) -> None:
        sessions, worker = self._database.sessions(self.name), self.worker

        def run() -> None:
            worker.run_child(sessions, self._handlers)

        self._child = self._scheduler.start(f"{self.name} child", run)


class RetentionProcess:
    """The deletion of a service's old rows."""

    is_idle = True

    def __init__(self, name: str, database: SimulatedDatabase, scheduler: Scheduler) -> None:
        self.name = name
        self._database = database
        self._scheduler = scheduler
        self._actor: Actor

    def start(self) -> None:
        """Start the process."""
        days = {OUTBOX: OUTBOX_DAYS, INBOX: INBOX_DAYS}
        retention = Retention(self._database.sessions(self.name), days)

        def run() -> None:
            clock = self._scheduler.clock
            while True:
                retention.remove(clock.now + _PASS / 2)
                self._scheduler.wait(clock.now + _PASS)

        self._actor = self._scheduler.start(self.name, run)

    def crash(self) -> None:
        """Kill the process, which ends its connections, and start it again."""
        self._database.kill(self.name)
        self._scheduler.crash(self._actor)
        self.start()

    def cut(self) -> None:
        """Do nothing: retention has no connection to the broker."""

    def disconnect(self) -> None:
        """End its connections to the database."""
        self._database.disconnect(self.name)
