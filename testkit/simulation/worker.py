"""A simulated worker: the real batches, settlement and consumer runtime, between two actors."""

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from random import Random
from types import SimpleNamespace
from typing import Any

from billiard.exceptions import WorkerLostError
from celery.bootsteps import RUN
from sqlalchemy.orm import Session

from eventbus.consumer.cause import Cause, Failed
from eventbus.consumer.handling import Handling
from eventbus.consumer.receive import BatchHandler, Delivery, Handlers, Outcome, Result
from eventbus.database.db import Sessions
from eventbus.events.envelope import Event
from eventbus.messaging.copy_channel import Copy
from eventbus.topology.service import Service
from eventbus.worker.consumer_connection import ConsumerConnection
from eventbus.worker.decision import Decision
from eventbus.worker.inbound import strategy
from eventbus.worker.losses import Losses
from eventbus.worker.micro_batches import record_parked
from eventbus.worker.observation import Observation
from eventbus.worker.parking_burst import ParkingBurst
from eventbus.worker.pause import Pause
from eventbus.worker.settlement import Settlement
from testkit.simulation import sequence
from testkit.simulation.broker import PendingCopy, SimulatedBroker, Stored
from testkit.simulation.database import record_effects
from testkit.simulation.scheduler import Scheduler

#: The delays of the retry tiers in seconds.
TIERS = (1.0, 5.0, 10.0)

#: A function that a handler calls after its effect, and that may raise.
Fault = Callable[[], None]


class Job:
    """A batch for the child process."""

    def __init__(
        self, deliveries: list[Delivery], done: Any, failed: Any, is_record: bool = False
    ) -> None:
        self.deliveries = deliveries
        #: Whether it only records an event that is about to be parked.
        self.is_record = is_record
        self.done = done
        self.failed = failed


class SimulatedWorker:
    """A substitute for Celery's consumer; `life` is the open connection."""

    def __init__(
        self,
        service: Service,
        broker: SimulatedBroker,
        scheduler: Scheduler,
        rng: Random,
    ) -> None:
        self._service = service
        self._broker = broker
        self._scheduler = scheduler
        self._rng = rng
        self.pool = SimpleNamespace(num_processes=1, apply_async=self._apply_async)
        self.app = SimpleNamespace(
            conf=SimpleNamespace(task_soft_time_limit=30, task_time_limit=45),
            batch_interval=0.0,
            decision=Decision(),
            losses=Losses(),
            # The service never pauses itself: injected failures are frequent, and no operator would
            # resume it.
            parking_burst=ParkingBurst(0),
        )
        self.timer = SimpleNamespace(call_after=self._call_after)
        self.blueprint = SimpleNamespace(state=RUN)
        self.connection_errors = (OSError,)
        self.pause = Pause(clock=scheduler.clock.monotonic)
        self.observation = Observation()
        self.settlement = Settlement(
            self._publish, service=service, retry_tiers=TIERS, release="simulated"
        )
        #: The batches for the child, and the ends of the batches that it has handled.
        self._jobs: deque[Job] = deque()
        self._running: Job | None = None
        self._ended: deque[Callable[[], object]] = deque()
        self._outcomes: deque[Callable[[], object]] = deque()
        self._soon: deque[Callable[[], object]] = deque()
        self._timers: list[tuple[float, Callable[[], None]]] = []
        self._connect()

    def run(self) -> None:
        """Run the event loop."""
        while True:
            due = min((at for at, _ in self._timers), default=inf)
            self._scheduler.wait(due, self._has_work)
            self._turn()

    def run_child(self, sessions: Sessions, handlers: Handlers) -> None:
        """Handle the batches, one at a time."""
        while True:
            self._scheduler.wait(inf, lambda: bool(self._jobs))
            if not self._jobs:
                continue
            job = self._running = self._jobs.popleft()
            try:
                results = self._run(job, sessions, handlers)
            except Exception as error:
                failed = error if isinstance(error, Failed) else Failed(Cause.of(error))
                self._broker.seen["batch isolated"] += len(job.deliveries) > 1
                self._scheduler.point()
                self._ended.append(partial(job.failed, failed))
            else:
                self._scheduler.point()
                self._ended.append(partial(job.done, results))
            self._running = None

    def lose_child(self) -> None:
        """Report that the child has died while it handled a batch or was idle."""
        if job := self._running:
            self._running = None
            self._ended.append(partial(job.failed, WorkerLostError("killed")))

    @property
    def is_idle(self) -> bool:
        """Whether all work is done."""
        return not (self._has_work() or self._jobs or self._running)

    def cut(self) -> None:
        """End the connection; the event loop detects the end later."""
        self._broker.drop(self.channel)

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        """Schedule a call for a later turn."""
        self._soon.append(partial(call, *args))

    def _connect(self) -> None:
        self.channel = self._broker.consume(self._service.queue)
        self.life = ConsumerConnection(self)

    def _has_work(self) -> bool:
        return bool(
            self.channel.connection is None
            or self.channel.arrived
            or self._ended
            or self._outcomes
            or self._soon
        )

    def _turn(self) -> None:
        # An event loop may process its pending work in any order.
        kinds: list[Callable[[], None]] = [
            partial(_run_first, calls)
            for calls in (self._ended, self._outcomes, self._soon)
            if calls
        ]
        if self.channel.connection is None:
            kinds.append(self._reconnect)
        elif self.channel.arrived:
            kinds.append(self._read)
        if any(at <= self._scheduler.clock.now for at, _ in self._timers):
            kinds.append(self._run_timer)
        if kinds:
            try:
                self._rng.choice(kinds)()
            except ConnectionResetError:
                self.cut()

    def _reconnect(self) -> None:
        self.life.close()
        self._connect()

    def _read(self) -> None:
        for _ in range(self._rng.randint(1, len(self.channel.arrived))):
            tag, stored = self.channel.arrived.popleft()
            self._receive(tag, stored)

    def _receive(self, tag: int, stored: Stored) -> None:
        returned = {"x-delivery-count": stored.returned} if stored.returned else {}
        message: Any = SimpleNamespace(
            delivery_tag=tag,
            channel=self.channel,
            headers=dict(stored.headers) | returned,
            properties={},
            body=stored.body,
            errors=[],
            life=self.life,
        )
        message.receipt = self.life.receive(message)
        task: Any = SimpleNamespace(name=stored.headers["task"])
        strategy(task, None, self)(message)

    def _run_timer(self) -> None:
        timer = min(self._timers, key=lambda entry: entry[0])
        self._timers.remove(timer)
        timer[1]()

    def _call_after(self, seconds: float, call: Callable[[], None]) -> None:
        self._timers.append((self._scheduler.clock.now + seconds, call))

    def _apply_async(self, entry: object, *, args: Any, callback: Any, **options: Any) -> None:
        is_record = entry is record_parked
        deliveries = list(args) if is_record else args[0]
        self._jobs.append(Job(deliveries, callback, options["error_callback"], is_record))

    def _publish(self, copy: Copy) -> None:
        def report(refusal: str | None) -> None:
            self._outcomes.append(lambda: copy.done(refusal))

        self._broker.copies.append(PendingCopy(copy, report))

    def _run(self, job: Job, sessions: Sessions, handlers: Handlers) -> list[Result] | None:
        handling = Handling(service=self._service, handlers=handlers, tiers=len(TIERS))
        if job.is_record:
            handling.record(sessions, job.deliveries[0])
            return None
        lot = [message.body for message in self._broker.parked[self._service.queue]]
        results = handling.handle(sessions, job.deliveries)
        self._broker.seen["duplicate dropped"] += sum(
            result.outcome is Outcome.DUPLICATE for result in results
        )
        if not self._service.parks_in_sequence:
            return results
        self._broker.seen["waited"] += sum(r.outcome is Outcome.WAITING for r in results)
        pairs = zip(job.deliveries, results, strict=True)
        handled = [delivery for delivery, r in pairs if r.outcome is Outcome.HANDLED]
        self._broker.passed += sequence.passed(sessions, lot, handled)
        return results


def recording(handlers: Handlers, fault: Fault) -> Handlers:
    """Return the batch handlers of a service, each of which also records its effects.

    A handler may fail after the record.
    """
    recorded: dict[object, BatchHandler] = {}
    for handler in set(handlers.values()):
        assert isinstance(handler, BatchHandler)

        def handle(
            session: Session, events: Sequence[Event], *, handler: BatchHandler = handler
        ) -> None:
            handler.handle(session, events)
            record_effects(session, [event.id for event in events])
            fault()

        recorded[handler] = BatchHandler(handle)
    return {contract: recorded[handler] for contract, handler in handlers.items()}


def _run_first(calls: deque[Callable[[], object]]) -> None:
    calls.popleft()()
