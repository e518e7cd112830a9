"""The Celery worker of a service: each event type that it consumes is a task."""

import gc
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import msgspec
from celery import Task, signals
from kombu.entity import Queue
from kombu.serialization import register
from kombu.utils.json import dumps

from eventbus.consumer import operator_pause
from eventbus.consumer.attempt import Attempt
from eventbus.consumer.attempts import attempt_all
from eventbus.consumer.cause import Cause, Failed
from eventbus.consumer.handling import Handling
from eventbus.consumer.operator_pause import OperatorPause
from eventbus.consumer.receive import Delivery, Handlers, Item, Result
from eventbus.database.db import transaction
from eventbus.errors import Permanent
from eventbus.events.conversion import understood
from eventbus.settings.service import ServiceSettings
from eventbus.telemetry import tracing
from eventbus.topology.objects import event_queue
from eventbus.topology.service import Service
from eventbus.watchdog import Watchdog
from eventbus.worker.app import ServiceApp
from eventbus.worker.bootsteps import TurnStep, WatchdogStep
from eventbus.worker.consumption import ConsumptionStep
from eventbus.worker.decision import Decision
from eventbus.worker.losses import Losses
from eventbus.worker.parking_burst import ParkingBurst
from eventbus.worker.pause import Pause
from eventbus.worker.task_events import TaskEventsStep


class EventTask(Task):
    """The task that handles events of one type. Every error that is not permanent is retried."""

    abstract = True
    Strategy = "eventbus.worker.inbound:strategy"
    autoretry_for = (Exception,)
    dont_autoretry_for = (Permanent,)


class EventApp(ServiceApp):
    """The app of a service's worker, with the handlers of its events."""

    service: Service

    def __init__(self, *, handlers: Handlers, batch_interval: float, **options: Any) -> None:
        super().__init__(
            f"{options['service'].name}-worker",
            consumer="eventbus.worker.safe_consumer:EventConsumer",
            task_cls=EventTask,
            **options,
        )
        self._handlers = handlers
        #: Minimum seconds from the start of one batch to the start of the next, unless the next is
        #: full.
        self.batch_interval = batch_interval
        #: The name of the worker; set in a child process when it starts.
        self.hostname = ""
        self.steps["worker"].add(WatchdogStep)
        self.steps["consumer"] |= {TurnStep, ConsumptionStep}
        for event_type in (t for contract in handlers for t in understood(contract)):
            # The object is not shared, because another app in this process, as in tests, must not
            # receive this handler.
            self.task(self._call(event_type), name=event_type, shared=False)

    def consumed_queue(self) -> Queue:
        """Return the queue of the part that this worker consumes."""
        return event_queue(self.service, self.settings.worker_part)

    @cached_property
    def watchdog(self) -> Watchdog:
        """The watchdog that terminates the main process if its event loop hangs."""
        return Watchdog(self.settings.health_file, state=self._state)

    @cached_property
    def pause(self) -> Pause:
        """The pause of this worker's consumption."""
        return Pause()

    @cached_property
    def losses(self) -> Losses:
        """The messages that were interrupted by outages."""
        return Losses()

    @cached_property
    def decision(self) -> Decision:
        """The decision whether this worker consumes."""
        # With a limit of 0, the worker must never pause its service. It then has no canary either,
        # because a failed canary would pause the service.
        return Decision(has_canary=self.settings.parking_burst_limit > 0)

    @cached_property
    def parking_burst(self) -> ParkingBurst:
        """The results of this worker's handlers, in which a burst pauses the service."""
        return ParkingBurst(self.settings.parking_burst_limit)

    def turned(self) -> None:
        """Record that the main thread is running, even while it waits for the broker."""
        self.watchdog.turned()

    def _state(self) -> str:
        if self.pause.reason:
            return f"paused: {self.pause.reason}"
        if not self.is_connected:
            return "not connected to the broker"
        return self.decision.state

    def handle_deliveries(self, deliveries: Sequence[Delivery]) -> list[Result]:
        """Handle one message, or many in one transaction.

        This runs in a child process, without a connection to the broker. Raises `Failed` with the
        cause.
        """
        # Tracing starts after the fork, because the thread that exports spans would not survive a
        # fork.
        tracing.start(self.main, self.settings, tasks=True)
        return self._handling.handle(
            self.sessions,
            deliveries,
            observe=lambda items, work: attempt_all(items, self._attempt, work),
        )

    def record_parked(self, delivery: Delivery) -> None:
        """Record that an event is about to be parked. See `Handling.record`.

        This runs in a child process.
        """
        self._handling.record(self.sessions, delivery)

    def read_operator_pause(self) -> OperatorPause | None:
        """Return the pause in effect, otherwise the pause that ended last, or None.

        This runs in a child process. Raises `Failed`.
        """
        try:
            with transaction(self.sessions) as session:
                return operator_pause.latest(session)
        except Exception as error:
            raise Failed(Cause.of(error)) from None

    def pause_service(self, reason: str) -> OperatorPause | None:
        """Pause the service, and return the pause that is in effect.

        This runs in a child process. Raises `Failed`.
        """
        try:
            with transaction(self.sessions) as session:
                return operator_pause.begin_by_worker(
                    session, reason=reason, hostname=self.hostname
                )
        except Exception as error:
            raise Failed(Cause.of(error)) from None

    @cached_property
    def _handling(self) -> Handling:
        return Handling(
            service=self.service,
            handlers=self._handlers,
            tiers=len(self.settings.retry_tiers),
            permanent=EventTask.dont_autoretry_for,
        )

    def _attempt(self, item: Item) -> Attempt:
        return Attempt(
            item,
            self.tasks[item.delivery.task],
            service=self.service,
            hostname=self.hostname,
            tiers=self.settings.retry_tiers,
        )

    def _call(self, event_type: str) -> Callable[..., str]:
        def call(**_: Any) -> str:
            # The strategy of `EventTask` passes events to `handle_deliveries`, many at once.
            raise NotImplementedError(f"{event_type} is handled in micro-batches")

        return call


def make_worker(
    service: Service,
    handlers: Handlers,
    settings: type[ServiceSettings],
    *,
    config: str = "eventbus.celeryconfig.worker",
    batch_interval: float = 0.0,
) -> EventApp:
    """Return the Celery app of a service's worker, with a task for each event type.

    `config` names a module of Celery settings. `batch_interval` is the minimum number of seconds
    from the start of one batch to the start of the next, unless the next batch is full. It suits
    services on which orders do not wait, because messages that arrive in the interval share the
    cost of one transaction. No files or connections are opened before the worker starts.
    """
    app = EventApp(
        service=service,
        handlers=handlers,
        batch_interval=batch_interval,
        settings=settings,
        config=config,
    )
    app.steps["consumer"].add(TaskEventsStep)

    def prepare(**_: Any) -> None:
        # Python's decoder would take several times as long, and would accept invalid JSON such as
        # NaN.
        register("json", dumps, msgspec.json.decode, "application/json", "utf-8")
        # The modules are loaded in the parent, because loading takes longer than the time limit for
        # the start of a child.
        tracing.prepare(app.settings)
        # Keep the memory of loaded objects shared: the marks of the garbage collector would copy
        # its pages to each child.
        gc.collect()
        gc.freeze()

    def set_hostname(sender: str, **_: Any) -> None:
        app.hostname = sender

    signals.worker_init.connect(prepare, weak=False)
    signals.worker_process_init.connect(set_hostname, weak=False)
    # A child process exits with `os._exit`, which skips exit handlers.
    signals.worker_process_shutdown.connect(_stop_tracing, weak=False)
    return app


def _stop_tracing(**_: Any) -> None:
    tracing.stop()
