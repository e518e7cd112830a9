"""A worker's main process without Celery, between a simulated broker and a simulated pool."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from celery.bootsteps import RUN

from common.kombu_topology import INVENTORY
from eventbus.consumer.cause import Cause, Failed, Verdict
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.consumer.receive import Delivery, Outcome, Result
from eventbus.messaging.copy_channel import Copy
from eventbus.worker.consumer_connection import ConsumerConnection
from eventbus.worker.consumption import read_operator_pause, store_pause
from eventbus.worker.decision import Decision
from eventbus.worker.inbound import strategy
from eventbus.worker.losses import Losses
from eventbus.worker.micro_batches import record_parked
from eventbus.worker.observation import Observation
from eventbus.worker.parking_burst import ParkingBurst
from eventbus.worker.pause import Pause
from eventbus.worker.settlement import Settlement


class Channel:
    """The broker's side of one channel, with its unacknowledged deliveries."""

    def __init__(self) -> None:
        self.connection: object = self
        self.waiting: set[int] = set()
        self.delivered = 0
        self.frames = 0
        self.requeued: list[int] = []

    def basic_ack(self, tag: int, multiple: bool = False) -> None:
        """Receive an acknowledgement. A real broker closes the channel for an unknown tag."""
        assert self.connection is not None, "a frame was sent on a closed connection"
        assert tag in self.waiting, f"delivery {tag} is not unacknowledged"
        self.frames += 1
        self.waiting -= {t for t in self.waiting if t <= tag} if multiple else {tag}

    def basic_reject(self, tag: int, requeue: bool) -> None:
        """Receive a rejection."""
        self.basic_ack(tag)
        self.requeued += [tag] if requeue else []


class TaskConsumer:
    """The consumer of the worker's queue, as Celery and the worker use it."""

    def __init__(self) -> None:
        self.is_consuming = False
        #: The number of times that it started to consume.
        self.starts = 0

    def consume(self) -> None:
        """Start consuming. A second consumer would hold twice as many messages."""
        assert not self.is_consuming
        self.is_consuming = True
        self.starts += 1

    def cancel(self) -> None:
        """Stop consuming."""
        assert self.is_consuming
        self.is_consuming = False


class Job:
    """A job of a child process, which a test ends: a batch, or a read or write of the pause."""

    def __init__(self, deliveries: list[Delivery], done: Any, failed: Any) -> None:
        self.deliveries = deliveries
        #: The reason for the pause that the job stores.
        self.reason: str | None = None
        self._done = done
        self._failed = failed

    @property
    def event_ids(self) -> set[str]:
        """The ids of the events of the batch."""
        return {delivery.event_id for delivery in self.deliveries}

    def finish(self, outcome: Outcome = Outcome.HANDLED) -> None:
        """End the batch with a commit."""
        self._done([Result(outcome) for _ in self.deliveries])

    def read(self, pause: OperatorPause | None) -> None:
        """End the read or write with its result."""
        self._done(pause)

    def record(self) -> None:
        """End the record of a parked event with a commit."""
        self._done(None)

    def fail(self, error: BaseException) -> None:
        """End the batch with a failure, or with a crash of its child."""
        self._failed(error)


class EventLoop:
    """A substitute for Celery's consumer. `life` is the open connection."""

    def __init__(
        self,
        children: int = 2,
        *,
        batch_interval: float = 0.0,
        parking_burst_limit: int = 0,
        parks_in_sequence: bool = False,
    ) -> None:
        self.pool = SimpleNamespace(num_processes=children, apply_async=self._apply_async)
        self.app = SimpleNamespace(
            conf=SimpleNamespace(task_soft_time_limit=30, task_time_limit=45),
            batch_interval=batch_interval,
            decision=Decision(),
            losses=Losses(),
            parking_burst=ParkingBurst(parking_burst_limit, clock=lambda: self.now),
        )
        self.timer = SimpleNamespace(
            call_after=lambda _seconds, call: self.later.append(call),
            call_repeatedly=self._call_repeatedly,
        )
        self.task_consumer = TaskConsumer()
        self.blueprint = SimpleNamespace(state=RUN)
        self.connection_errors = (OSError,)
        self.now = 1_000.0
        self.pause = Pause(clock=lambda: self.now)
        self.observation = Observation()
        self.copies: list[Copy] = []
        self.settlement = Settlement(
            self.copies.append,
            service=replace(INVENTORY, parks_in_sequence=parks_in_sequence),
            retry_tiers=(1.0, 5.0),
            release="test",
        )
        #: The records of events that are about to be parked.
        self.records: list[Job] = []
        self.jobs: list[Job] = []
        self.reads: list[Job] = []
        self.repeated: list[Callable[[], None]] = []
        self.later: list[Callable[[], None]] = []
        self._soon: list[Callable[[], None]] = []
        self.channel = Channel()
        self.life = ConsumerConnection(self)

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        """Schedule a call for the next turn."""
        self._soon.append(lambda: call(*args))

    def reconnect(self) -> Channel:
        """Replace the connection by a new connection, whose delivery tags start at 1."""
        self.channel.connection = None
        self.life.close()
        self.channel, self.life = Channel(), ConsumerConnection(self)
        return self.channel

    def deliver(self, *event_ids: str, **headers: Any) -> None:
        """Deliver messages on the open connection."""
        receive = strategy(SimpleNamespace(name="order.created"), None, self)
        for event_id in event_ids:
            self.channel.delivered += 1
            self.channel.waiting.add(self.channel.delivered)
            message: Any = SimpleNamespace(
                delivery_tag=self.channel.delivered,
                channel=self.channel,
                headers={"id": event_id, "task": "order.created", "retries": 0} | headers,
                properties={},
                body=b"[]",
                errors=[],
                life=self.life,
            )
            message.receipt = self.life.receive(message)
            receive(message)

    def turn(self) -> None:
        """Run all scheduled calls."""
        while self._soon:
            self._soon.pop(0)()

    def wait(self, seconds: float) -> None:
        """Advance the time, and run the timers and the scheduled calls."""
        self.now += seconds
        later, self.later = self.later, []
        for call in later:
            call()
        self.turn()

    def confirm(self, refusal: str | None = None) -> None:
        """Confirm the pending copies as the broker does, or refuse them."""
        while self.copies:
            copy = self.copies.pop(0)
            if copy.is_wanted():
                copy.done(refusal)

    def _call_repeatedly(self, _seconds: float, call: Callable[[], None]) -> SimpleNamespace:
        self.repeated.append(call)
        return SimpleNamespace(cancel=lambda: self.repeated.remove(call))

    def _apply_async(self, entry: object, *, callback: Any, args: Any = (), **options: Any) -> None:
        if entry in (read_operator_pause, store_pause):
            job = Job([], callback, options["error_callback"])
            job.reason = args[0] if args else None
            self.reads.append(job)
        elif entry is record_parked:
            self.records.append(Job(list(args), callback, options["error_callback"]))
        else:
            self.jobs.append(Job(args[0], callback, options["error_callback"]))


def outage(text: str = "the database cannot be reached") -> Failed:
    """Return the failure of a child whose database is down."""
    return Failed(Cause(Verdict.PAUSE, "Outage", text))


def slow() -> Failed:
    """Return the failure of a child whose statement timed out."""
    return Failed(Cause(Verdict.SLOW, "OperationalError", "SQLSTATE 57014"))
